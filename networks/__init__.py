"""Networks beyond the assignment's: residual blocks, the CNN of the hyper-parameter study, ImageNet classifiers."""
