"""From a source of pictures to a verified, de-duplicated, split ImageFolder. Imports no torch."""
