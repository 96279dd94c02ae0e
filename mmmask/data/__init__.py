"""From shards to packs: sample order, reading, augmentation, collation."""
