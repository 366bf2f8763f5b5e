from transcription_assets.domain.urls import without_secrets


def test_secrets_of_a_url_are_not_shown() -> None:
    assert without_secrets("https://me:secret@example.com:8443/a/b.mp3?token=1#x") == "https://example.com:8443/a/b.mp3"
    assert "secret" not in without_secrets("http://me:secret@[::1")
