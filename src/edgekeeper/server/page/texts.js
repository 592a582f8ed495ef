// Every text of the page, in English and German, and the language that is shown.

const LANGUAGES = ["en", "de"];

const TEXTS = {
  skip: ["Skip to the images", "Zu den Bildern springen"],
  promise: ["Larger images whose edges stay in place. Nothing leaves this computer.", "Größere Bilder, deren Kanten bleiben, wo sie sind. Nichts verlässt diesen Rechner."],
  other_language: ["Deutsch", "English"],
  drop_title: ["Drop images here", "Bilder hierher ziehen"],
  drop_hint: ["One or hundreds, a folder or a ZIP; or paste one from the clipboard.", "Eines oder Hunderte, einen Ordner oder ein ZIP; oder eines aus der Zwischenablage einfügen."],
  choose_files: ["Choose images", "Bilder wählen"],
  choose_folder: ["Choose a folder", "Ordner wählen"],
  options: ["How", "Wie"],
  size: ["How large", "Wie groß"],
  times: ["{0} times as wide and high", "{0}-mal so breit und hoch"],
  own_factor: ["another factor", "ein anderer Faktor"],
  factor: ["Factor", "Faktor"],
  screen: ["Screen, {0}", "Bildschirm, {0}"],
  print: ["Print at 300 dpi, {0}", "Druck mit 300 dpi, {0}"],
  style: ["Style", "Stil"],
  auto: ["Automatic", "Automatisch"],
  auto_hint: ["By the image: clean ones stay true, JPEG marks and noise are taken away.", "Nach dem Bild: saubere bleiben treu, JPEG-Spuren und Rauschen werden entfernt."],
  faithful: ["Faithful", "Treu"],
  faithful_hint: ["Least error; invents nothing.", "Geringster Fehler; erfindet nichts."],
  sharp: ["Sharp", "Scharf"],
  sharp_hint: ["Edges as steep as in originals.", "Kanten so steil wie in Originalen."],
  texture: ["Texture", "Textur"],
  texture_hint: ["Looks most like a photograph; details may be invented.", "Am ehesten wie ein Foto; Einzelheiten können erfunden sein."],
  restore: ["Restore", "Wiederherstellen"],
  restore_hint: ["Takes blur, noise and JPEG marks away.", "Nimmt Unschärfe, Rauschen und JPEG-Spuren weg."],
  format: ["Format", "Format"],
  keep_format: ["as the image", "wie das Bild"],
  quality: ["Quality (1 to 100)", "Qualität (1 bis 100)"],
  start: ["Enlarge {0}", "{0} vergrößern"],
  start_none: ["Enlarge", "Vergrößern"],
  one_image: ["one image", "Ein Bild"],
  some_images: ["{0} images", "{0} Bilder"],
  zip: ["Download all (ZIP)", "Alle herunterladen (ZIP)"],
  clear: ["Remove all", "Alle entfernen"],
  sure: ["Remove all images and results?", "Alle Bilder und Ergebnisse entfernen?"],
  total: ["All together about {0}.", "Alles zusammen etwa {0}."],
  images: ["Images", "Bilder"],
  empty: ["None yet.", "Noch keine."],
  looking: ["Being looked at …", "Wird angesehen …"],
  becomes: ["{0} → {1} pixels, about {2}", "{0} → {1} Pixel, etwa {2}"],
  too_large: ["{0} → {1} pixels: too large, choose a smaller size", "{0} → {1} Pixel: zu groß, bitte kleiner wählen"],
  jpeg: ["JPEG quality about {0}", "JPEG-Qualität etwa {0}"],
  noise: ["noise {0} of 255", "Rauschen {0} von 255"],
  alpha: ["transparency", "Transparenz"],
  deep: ["16 bit", "16 Bit"],
  grey: ["grey", "Graustufen"],
  profile: ["colour profile", "Farbprofil"],
  try_restore: ["“Restore” may suit it.", "„Wiederherstellen“ könnte passen."],
  queued: ["waiting", "wartet"],
  running: ["being made", "wird berechnet"],
  done: ["done", "fertig"],
  failed: ["not done", "nicht fertig"],
  cancelled: ["cancelled", "abgebrochen"],
  left: ["{0} left", "noch {0}"],
  compare: ["Compare", "Vergleichen"],
  download: ["Download", "Herunterladen"],
  cancel: ["Cancel", "Abbrechen"],
  retry: ["Again", "Noch einmal"],
  remove: ["Remove", "Entfernen"],
  of_what: ["{0}: {1}", "{0}: {1}"],
  risk_show: ["What may be invented", "Was erfunden sein kann"],
  supported: ["No invented structure found ({0} of the edges lack support in the image).", "Keine erfundene Struktur gefunden ({0} der Kanten sind vom Bild nicht gedeckt)."],
  doubtful: ["Some edges are doubtful ({0} lack support in the image).", "Manche Kanten sind zweifelhaft ({0} sind vom Bild nicht gedeckt)."],
  invented: ["Some structure is invented ({0} of the edges lack support in the image).", "Manche Struktur ist erfunden ({0} der Kanten sind vom Bild nicht gedeckt)."],
  before: ["Before", "Vorher"],
  after: ["After", "Nachher"],
  split: ["Before and after", "Vorher und nachher"],
  zoom_in: ["Larger", "Größer"],
  zoom_out: ["Smaller", "Kleiner"],
  fit: ["Whole", "Ganz"],
  full_screen: ["Full screen", "Vollbild"],
  close: ["Close", "Schließen"],
  canvas: ["{0}, before and after. Arrow keys move, plus and minus zoom, 0 shows the whole, 1 the pixels.", "{0}, vorher und nachher. Pfeiltasten verschieben, Plus und Minus zoomen, 0 zeigt alles, 1 die Pixel."],
  api: ["For programs: the API", "Für Programme: die API"],
  offline: ["The server does not answer. This page goes on when it does.", "Der Server antwortet nicht. Sobald er es tut, geht es hier weiter."],
  not_sent: ["“{0}” was not taken: {1}", "„{0}“ wurde nicht angenommen: {1}"],
  seconds: ["{0} s", "{0} s"],
  minutes: ["{0} min", "{0} min"],
  hours: ["{0} h", "{0} h"],
};

const stored = localStorage.getItem("language");
let language = LANGUAGES.includes(stored) ? stored : navigator.language.startsWith("de") ? "de" : "en";

export function text(key, ...values) {
  return TEXTS[key][LANGUAGES.indexOf(language)].replace(/\{(\d)\}/g, (_, n) => values[n]);
}

export function translate(root) {
  document.documentElement.lang = language;
  for (const node of root.querySelectorAll("[data-text]")) node.textContent = text(node.dataset.text);
}

export function switchLanguage() {
  language = LANGUAGES[1 - LANGUAGES.indexOf(language)];
  localStorage.setItem("language", language);
}

export function duration(seconds) {
  if (seconds < 90) return text("seconds", number(Math.max(1, Math.round(seconds))));
  if (seconds < 5400) return text("minutes", number(Math.round(seconds / 60)));
  return text("hours", number(seconds / 3600, 1));
}

export function number(value, digits = 0) {
  return value.toLocaleString(language, { maximumFractionDigits: digits });
}

export function percent(value) {
  return value.toLocaleString(language, { style: "percent", maximumSignificantDigits: 2 });
}
