"""The demo: the dispatch desk with every process and outside service it needs, on one machine."""
