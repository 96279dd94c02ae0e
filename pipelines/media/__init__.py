"""Video and audio files by FFmpeg: headers, frames, clips, scenes, sound."""
