"""Backbone, transforms, training and inference. The only room that imports torch."""
