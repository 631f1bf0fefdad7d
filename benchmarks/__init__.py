"""Speed, told as ratios between contestants that run in turns on one machine."""
