"""Embedding profiles: prompts and weights of sentence encoders known by their Hub names.

Any other encoder of the Hub can be used as well, with the prompts of its own configuration.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the ranking, which depend on the range of an encoder's cosines; `eval calibrate` measures them.

    `sentence` is the share of the best sentence in a passage's closeness (the rest is the passage's). `words` is the
    score added to a passage with all words of the question, `sentence_words` that added to a sentence with all of them
    when the sentences of a passage are compared. `weak_below` is the cosine below which a passage is unrelated to the
    question; with 0.0 only missing words make a moment weak.
    """

    sentence: float = 0.5
    words: float = 0.5
    sentence_words: float = 0.3
    weak_below: float = 0.0


@dataclass(frozen=True, slots=True)
class Profile:
    """Prefixes of questions (`query`) and passages (`passage`), and the weights of the ranking.

    `weights` is None if they were not measured: `index rebuild` does so then. `tried` says whether the project has run
    the model; the others follow their authors' documentation and could not be downloaded when this was written.
    """

    query: str = ""
    passage: str = ""
    weights: Weights | None = None
    tried: bool = False
    description: str = ""

    @property
    def english_only(self) -> bool:
        """Whether the model is known to understand English only."""
        return self.description.startswith("English")


PROFILES: Mapping[str, Profile] = {
    "all-MiniLM-L6-v2": Profile(
        weights=Weights(weak_below=0.35), tried=True, description="English, 384 numbers, small and quick"
    ),
    "universal-sentence-encoder-multilingual": Profile(
        weights=Weights(words=0.3, weak_below=0.26),
        tried=True,
        description="16 languages, 512 numbers, very quick on a CPU",
    ),
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2": Profile(description="50 languages, 384 numbers"),
    # The weights were measured with a conversion to 4 bits (docs/benchmarks/search.md).
    "intfloat/multilingual-e5-small": Profile(
        "query: ",
        "passage: ",
        Weights(words=0.05, sentence_words=0.1, weak_below=0.83),
        description="100 languages, 384 numbers",
    ),
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
