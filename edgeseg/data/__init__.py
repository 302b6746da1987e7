"""Images in, masks in; pre- and post-processing as the ModelSpec says; the synthetic sample set."""
