"""What the scripts do, as functions: the only package here that imports all the others."""
