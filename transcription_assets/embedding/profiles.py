"""Embedding profiles: prompts and limits of sentence encoders known by their Hub names.

Any other encoder of the Hub can be used as well, with the prompts of its own configuration.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """Prefixes of questions (`query`) and passages (`passage`), and the cosine below which a passage is unrelated.

    `weak_below` is 0.0 if it was not measured: then only missing words make a moment weak. `tried` says whether the
    project has run the model; the others follow their authors' documentation and could not be downloaded when this was
    written.
    """

    query: str = ""
    passage: str = ""
    weak_below: float = 0.0
    tried: bool = False
    description: str = ""


PROFILES: Mapping[str, Profile] = {
    "all-MiniLM-L6-v2": Profile(weak_below=0.35, tried=True, description="English, 384 numbers, small and quick"),
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2": Profile(description="50 languages, 384 numbers"),
    "intfloat/multilingual-e5-small": Profile("query: ", "passage: ", description="100 languages, 384 numbers"),
    "intfloat/multilingual-e5-large": Profile("query: ", "passage: ", description="100 languages, 1024 numbers"),
    "BAAI/bge-m3": Profile(description="100 languages, 1024 numbers"),
    "Qwen/Qwen3-Embedding-0.6B": Profile(
        "Instruct: Given a question, retrieve passages of transcripts that answer it\nQuery:",
        description="100 languages, 1024 numbers; wants a GPU",
    ),
    "google/embeddinggemma-300m": Profile(
        "task: search result | query: ", "title: none | text: ", description="100 languages, 768 numbers; gated"
    ),
    "Alibaba-NLP/gte-modernbert-base": Profile(description="English, 768 numbers, ModernBERT"),
    "nomic-ai/modernbert-embed-base": Profile(
        "search_query: ", "search_document: ", description="English, 768 numbers, ModernBERT"
    ),
}


def profile(name: str) -> Profile:
    """Return the profile of a model; an empty one if it is unknown."""
    return PROFILES.get(name, Profile())
