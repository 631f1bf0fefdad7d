"""One module per promise of docs/explanation/promises.md, and the guards that keep them.

Each test stands between the statements that a promise rests on and fails when its guard is taken
away; `guards` takes each one away and looks. What a real worker does is shown by the conformance
scenarios.
"""
