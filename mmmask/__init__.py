"""One masked autoencoder for every modality, over the shard data sets of `shard_tools`."""
