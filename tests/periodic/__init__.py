"""Schedules whose slots are decided once: leaders, slots, beats that are killed."""
