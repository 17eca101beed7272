"""What a study, data set, feature set, model, protocol and run is: typed, strict, without torch."""
