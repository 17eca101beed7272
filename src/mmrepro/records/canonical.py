"""The text of a definition without what decides no result, and without the names of other definitions."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable, Iterator
from functools import cache

from mmrepro.records.definitions import (
    PRINTERS,
    Binding,
    Bodied,
    Comprehension,
    Definition,
    Module,
    Reference,
    bases_of,
    imported_names,
    is_recorder,
    located,
    members,
    module,
)

OWN, OTHER, RECORD = "_own", "_other", "_record"


@cache
def definition(reference: Reference) -> Definition:
    """Return what a definition says and uses."""
    known = module(reference.module)
    statement, _, member = known.statements[reference.name], *reference.name.partition(".")[1:]
    if member and isinstance(statement, ast.ClassDef):
        constant = copy.deepcopy(members(statement)[member])
        return _Canonical(known, member, owner=statement.name).definition(constant)
    is_settings = "pydantic.BaseModel" in bases_of(reference)
    own = copy.deepcopy(statement) if reference.name in known.shared else statement
    return _Canonical(known, reference.name, is_settings=is_settings).definition(own)


class _Scope:
    """Names that a function, class or comprehension binds, and what imports within it stand for."""

    def __init__(self, names: set[str], imports: dict[str, Binding], is_class: bool = False) -> None:
        self.names, self.imports, self.is_class = names, imports, is_class


class _Canonical(ast.NodeTransformer):
    """Rewrites one definition and notes what it uses."""

    def __init__(self, known: Module, name: str, owner: str = "", is_settings: bool = False) -> None:
        self.known, self.name, self.owner, self.is_settings = known, name, owner, is_settings
        self.scopes: list[_Scope] = []
        self.found = Definition()

    def definition(self, statement: ast.stmt) -> Definition:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                statement.name = OWN
            case ast.Assign(targets=targets):
                for node in (n for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)):
                    node.id = OWN if node.id == self.name else OTHER
            case ast.AnnAssign(target=ast.Name() as target):
                target.id = OWN
        if self.is_settings and isinstance(statement, ast.ClassDef):
            self._take_fields(statement)
        self.found.text = ast.unparse(ast.fix_missing_locations(self.visit(statement)))
        return self.found

    def _take_fields(self, statement: ast.ClassDef) -> None:
        """Fields leave a class of settings: each is a definition of its own, known by its name."""
        for entry in [e for e in statement.body if isinstance(e, ast.AnnAssign) and isinstance(e.target, ast.Name)]:
            statement.body.remove(entry)
            name, kinds = ast.unparse(entry.target), self._built_in(entry.annotation)
            self.found.fields[name] = _Canonical(self.known, "").definition(entry)
            self.found.fields[name].text += f" {kinds}"
        statement.body = statement.body or [ast.Pass()]

    def _built_in(self, annotation: ast.expr) -> list[str]:
        """The types of Python's own that an annotation names: values are converted to them."""
        names = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
        return sorted(name for name in names if self._lookup(name) is None)

    # names

    def _lookup(self, name: str) -> Binding | Reference | None:
        for depth, scope in enumerate(reversed(self.scopes)):
            if scope.is_class and depth:
                continue
            if name in scope.imports:
                return scope.imports[name]
            if name in scope.names:
                return None
        sibling = f"{self.owner}.{name}"
        return Reference(self.known.name, sibling) if sibling in self.known.statements else self.known.resolve(name)

    def _numbered(self, reference: Reference) -> ast.Name:
        if is_recorder(reference.module):
            return ast.Name(RECORD, ast.Load())
        if reference not in self.found.references:
            self.found.references.append(reference)
        return ast.Name(f"_{self.found.references.index(reference)}", ast.Load())

    def visit_Name(self, node: ast.Name) -> ast.AST:
        found = self._lookup(node.id)
        reference = located(found)
        if reference is not None:
            return self._numbered(reference)
        if isinstance(found, Binding) and not found.inside:
            return ast.Name(f"{found.module}.{found.name}" if found.name else found.module, node.ctx)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.found.words.add(node.attr)
        if isinstance(node.value, ast.Name):
            reference = self._attribute(self._lookup(node.value.id), node.attr)
            if reference is not None:
                return self._numbered(reference)
        return self.generic_visit(node)

    @staticmethod
    def _attribute(found: Binding | Reference | None, name: str) -> Reference | None:
        """What an attribute of a module, or of a class of constants, stands for."""
        if isinstance(found, Binding) and found.inside and found.name is None:
            return located(module(found.module).resolve(name))
        owner = located(found)
        if owner is not None and f"{owner.name}.{name}" in module(owner.module).statements:
            return Reference(owner.module, f"{owner.name}.{name}")
        return None

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str) and node.value.isidentifier():
            self.found.words.add(node.value)
        return node

    # what decides no result

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        """Words leave an error, and what is for a user's eyes leaves whole; others may be caught, and decide."""
        called = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        if isinstance(called, ast.Name):
            reference = located(self._lookup(called.id))
            if reference is not None and is_recorder(reference.module):
                return ast.Raise(None, None)
        if isinstance(node.exc, ast.Call):
            node.exc.args = [argument for argument in node.exc.args if not _is_text(argument)]
        return ast.Raise(None if node.exc is None else self.visit(node.exc), None)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant):
            return None
        called = node.value.func if isinstance(node.value, ast.Call) else None
        if isinstance(called, ast.Name) and called.id in PRINTERS and self._lookup(called.id) is None:
            return None
        return self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        return None

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id == "Field":
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != "description"]
        return self.generic_visit(node)

    def visit_MatchClass(self, node: ast.MatchClass) -> ast.AST:
        self.found.words.update(node.kwd_attrs)
        return self.generic_visit(node)

    # annotations

    def _note_types(self, annotation: ast.expr | None) -> None:
        for node in ast.walk(annotation) if annotation is not None else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                self._note_types(_parsed(node.value))
            elif isinstance(node, ast.Name):
                reference = located(self._lookup(node.id))
                if reference is not None and not is_recorder(reference.module):
                    self.found.types.add(reference)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        self._note_types(node.annotation)
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self._note_types(node.annotation)
        if node.value is not None:
            return self.visit(ast.Assign([node.target], node.value))
        if self.scopes and not self.scopes[-1].is_class:
            return None
        return ast.AnnAssign(node.target, ast.Name(OTHER, ast.Load()), None, node.simple)

    # scopes

    def _within(self, scope: _Scope, node: ast.AST) -> ast.AST:
        self.scopes.append(scope)
        self.generic_visit(node)
        self.scopes.pop()
        return node

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self._note_types(node.returns)
        node.returns = None
        node.decorator_list = [self.visit(decorator) for decorator in node.decorator_list]
        decorators, node.decorator_list = node.decorator_list, []
        scope = _Scope(
            {*_arguments(node.args), *_bound(node.body)}, imported_names(_own_nodes(node.body), self.known.name)
        )
        self._called(scope, node)
        node.decorator_list, node.body = decorators, node.body or [ast.Pass()]
        return node

    def _called(self, scope: _Scope, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> ast.AST:
        """Visit what has arguments; their defaults belong to what is around it."""
        defaults = [self.visit(default) for default in node.args.defaults]
        keyword_defaults = [default and self.visit(default) for default in node.args.kw_defaults]
        node.args.defaults, node.args.kw_defaults = [], []
        self._within(scope, node)
        node.args.defaults, node.args.kw_defaults = defaults, keyword_defaults
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = _visit_function

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return self._called(_Scope(set(_arguments(node.args)), {}), node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        outer = node.bases, node.keywords, node.decorator_list
        node.bases, node.keywords, node.decorator_list = [], [], []
        self._within(_Scope(set(_bound(node.body)), {}, is_class=True), node)
        node.body = node.body or [ast.Pass()]
        node.bases, node.keywords, node.decorator_list = ([self.visit(entry) for entry in part] for part in outer)
        return node

    def _visit_comprehension(self, node: Comprehension) -> ast.AST:
        targets = (n for generator in node.generators for n in ast.walk(generator.target))
        return self._within(_Scope({n.id for n in targets if isinstance(n, ast.Name)}, {}), node)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _visit_comprehension


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _parsed(text: str) -> ast.expr | None:
    """A type that is written as a string; None for other strings, such as those of `Literal`."""
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        return None


def _arguments(arguments: ast.arguments) -> Iterator[str]:
    listed = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    yield from (a.arg for a in [*listed, arguments.vararg, arguments.kwarg] if a is not None)


def _own_nodes(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All nodes of a body but those inside functions, classes, lambdas and comprehensions within it."""
    for node in body:
        yield node
        if not isinstance(node, Bodied | ast.Lambda | Comprehension):
            yield from _own_nodes(ast.iter_child_nodes(node))


def _bound(body: Iterable[ast.AST]) -> Iterator[str]:
    """Names that a body binds, apart from imports."""
    outside: set[str] = set()
    names: list[str] = []
    for node in _own_nodes(body):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.append(node.name)
            case ast.Name(id=name, ctx=ast.Store()):
                names.append(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names.append(name)
            case ast.Global(names=listed) | ast.Nonlocal(names=listed):
                outside.update(listed)
    yield from (name for name in names if name not in outside)
