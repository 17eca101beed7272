"""Seconds and memory of the item graph, one process a size, on generated clustered float32 features.

Memory is the peak of the process less what it had with the features made and the libraries loaded. `plain` is the same
graph from a float64 copy of the features and float64 products, a few rows at a time.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch
from torch import Tensor

from mmrepro.ops.neighbours import nearest_neighbours

K = 10
ITEMS_PER_CLUSTER = 50
NOISE = 0.6  # of a feature, beside a centre's 1
ROWS = 2048
PLAIN_BYTES = 256 * 2**20
HEADER = f"{'items':>8}{'dim':>6}  {'method':7}{'seconds':>10}{'CPU s':>10}{'features MB':>13}{'above MB':>10}"


def clustered(n_items: int, dim: int) -> Tensor:
    """Return features whose rows lie around centres, made in place so that nothing of their size stands beside them."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(max(1, n_items // ITEMS_PER_CLUSTER), dim, generator=generator)
    features = torch.empty(n_items, dim)
    for part in features.split(ROWS):
        part.normal_(generator=generator).mul_(NOISE)
        part += centres[torch.randint(len(centres), (len(part),), generator=generator)]
    return features


def plain_neighbours(features: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return indices and cosines of the k nearest rows, from float64 products with a float64 copy of all rows."""
    wide = features.double()
    wide = wide / wide.norm(dim=1, keepdim=True)
    parts = []
    for start in range(0, len(wide), rows := max(1, PLAIN_BYTES // (40 * len(wide)))):
        similarities = (wide[start : start + rows] @ wide.T).float().clamp_(-1, 1)
        own = torch.arange(len(similarities))
        similarities[own, own + start] = torch.inf
        parts.append(similarities.topk(k, dim=1))
    return torch.cat([part.indices for part in parts]), torch.cat([part.values for part in parts])


def peak_mb() -> float:
    """Return the largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def measure(n_items: int, dim: int, method: str) -> str:
    """Make one item graph in this process and describe what it took."""
    function = {"ours": nearest_neighbours, "plain": plain_neighbours}[method]
    features = clustered(n_items, dim)
    function(features[:100].clone(), K)
    before, started, cpu_started = peak_mb(), time.perf_counter(), time.process_time()
    function(features, K)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    size = features.numel() * features.element_size() / 1e6
    above = peak_mb() - before
    return f"{n_items:8d}{dim:6d}  {method:7}{seconds:10.1f}{cpu_seconds:10.1f}{size:13.0f}{above:10.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[7000, 18000, 63001, 200000])
    parser.add_argument("--dims", type=int, nargs="+", default=[384, 4096])
    parser.add_argument("--methods", nargs="+", choices=["ours", "plain"], default=["ours"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--here", action="store_true", help="one size, in this process, without the header")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.here:
        print(measure(options.items[0], options.dims[0], options.methods[0]))
        return
    print(HEADER, flush=True)
    for n_items in options.items:
        for dim in options.dims:
            for method in options.methods:
                arguments = ["--items", str(n_items), "--dims", str(dim), "--methods", method]
                command = [sys.executable, __file__, *arguments, "--threads", str(options.threads), "--here"]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
