"""Level 3: annotations, manifests, sampling, transforms, data sets and loaders."""
