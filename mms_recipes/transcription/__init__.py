"""From recordings of any length to text and subtitles, many languages at once."""
