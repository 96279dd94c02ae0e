"""What a user names as inputs: listed in any order, sorted on disk, brought here one at a time."""
