"""Parts of the run screen, one per file; each shows one aspect of a RunModel and knows no other part."""
