"""Sentence encoders that are known by their Hub names: what each wants before a question and before a passage.

Any other encoder of the Hub can be named as well; its own configuration then says what it wants.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """`query` and `passage` are put before texts; `weak_below` is the cosine under which nothing really fits.

    0.0 where that was not measured: then only missing words make a moment a weak one. `tried` says whether the project
    has run it; the others are set up as their authors say and could not be downloaded where this was written.
    """

    query: str = ""
    passage: str = ""
    weak_below: float = 0.0
    tried: bool = False
    says: str = ""


PROFILES: Mapping[str, Profile] = {
    "all-MiniLM-L6-v2": Profile(weak_below=0.35, tried=True, says="English, 384 numbers, small and quick"),
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2": Profile(says="50 languages, 384 numbers"),
    "intfloat/multilingual-e5-small": Profile("query: ", "passage: ", says="100 languages, 384 numbers"),
    "intfloat/multilingual-e5-large": Profile("query: ", "passage: ", says="100 languages, 1024 numbers"),
    "BAAI/bge-m3": Profile(says="100 languages, 1024 numbers"),
    "Qwen/Qwen3-Embedding-0.6B": Profile(
        "Instruct: Given a question, retrieve passages of transcripts that answer it\nQuery:",
        says="100 languages, 1024 numbers; wants a GPU",
    ),
    "google/embeddinggemma-300m": Profile(
        "task: search result | query: ", "title: none | text: ", says="100 languages, 768 numbers; gated"
    ),
    "Alibaba-NLP/gte-modernbert-base": Profile(says="English, 768 numbers, ModernBERT"),
    "nomic-ai/modernbert-embed-base": Profile(
        "search_query: ", "search_document: ", says="English, 768 numbers, ModernBERT"
    ),
}


def profile(name: str) -> Profile:
    """The profile of a model; an empty one where it is not known."""
    return PROFILES.get(name, Profile())
