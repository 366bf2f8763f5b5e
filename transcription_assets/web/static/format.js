// Times, dates, numbers and languages as text.

const LANGUAGE_NAMES = new Intl.DisplayNames(["en"], { type: "language" });

/** Format a time in seconds as `1:05` or `1:02:03`. */
export function formatTime(seconds) {
  const whole = Math.floor(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const rest = String(whole % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** Format a time in seconds for screen readers, which read `1:05` as a time of day. */
export function formatTimeWithUnits(seconds) {
  const whole = Math.floor(seconds);
  return `${whole >= 60 ? `${Math.floor(whole / 60)} min ` : ""}${whole % 60} s`;
}

/** @param {string} timestamp ISO 8601; a date alone is taken as a local day, since `Date` would take it as one in UTC */
export const formatDate = (timestamp) => new Date(timestamp.length === 10 ? `${timestamp}T00:00` : timestamp)
  .toLocaleDateString(undefined, { dateStyle: "medium" });

export const formatCount = (number, singular, plural = `${singular}s`) =>
  `${number.toLocaleString()} ${number === 1 ? singular : plural}`;

/** Format a number of bytes as `1.5 GB` or `12 MB`. */
export const formatBytes = (bytes) => (bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB`
  : bytes >= 1e6 ? `${Math.round(bytes / 1e6)} MB` : `${Math.ceil(bytes / 1e3)} kB`);

/** Return the English name of a language code; the code itself if it is malformed. */
export function languageName(code) {
  try {
    return code ? LANGUAGE_NAMES.of(code) : "";
  } catch {
    return code;
  }
}

/** Join the texts that are not empty. */
export const joinText = (...texts) => texts.filter(Boolean).join(" · ");
