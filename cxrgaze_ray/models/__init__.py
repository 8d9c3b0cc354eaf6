"""The networks: `unet` and `densenet` are the halves, `gazenet` joins them, `zoo` builds any by its settings."""
