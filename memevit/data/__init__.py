"""From a source of images to a verified, de-duplicated, split ImageFolder. Imports no torch."""
