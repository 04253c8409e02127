"""AMED: a learned policy that says where inside an interval to ask the second query."""
