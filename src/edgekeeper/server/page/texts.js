// Every text of the page and of the server, in English and German, and the language that is shown.

const LANGUAGES = ["en", "de"];
const SMALLEST = 1e-4; // share of edges that is told

const TEXTS = {
  skip: ["Skip to the images", "Zu den Bildern springen"],
  promise: ["Larger images whose edges stay in place.", "Größere Bilder, deren Kanten bleiben, wo sie sind."],
  stays: ["Nothing leaves this computer.", "Nichts verlässt diesen Rechner."],
  sent: ["What you add goes to {0}, where all who have its address with the token see it, and nowhere else.", "Was Sie hinzufügen, geht an {0}, wo es alle sehen, die dessen Adresse mit Kennwort haben, und nirgends sonst hin."],
  in_clear: ["The way there is not encrypted.", "Der Weg dorthin ist nicht verschlüsselt."],
  other_language: ["Deutsch", "English"],
  drop_title: ["Drop images or videos here", "Bilder oder Videos hierher ziehen"],
  drop_hint: ["One or hundreds, a folder or a ZIP; or paste one from the clipboard.", "Eines oder Hunderte, einen Ordner oder ein ZIP; oder eines aus der Zwischenablage einfügen."],
  choose_files: ["Choose images", "Bilder wählen"],
  choose_folder: ["Choose a folder", "Ordner wählen"],
  options: ["Options", "Optionen"],
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
  strength: ["How strongly to restore", "Wie stark wiederherstellen"],
  restore_little: ["{0}: close to the image", "{0}: nah am Bild"],
  restore_half: ["{0}: between both", "{0}: zwischen beidem"],
  restore_much: ["{0}: takes most away", "{0}: nimmt am meisten weg"],
  more: ["More options", "Weitere Optionen"],
  model: ["Network", "Netz"],
  model_of_style: ["that of the style", "das des Stils"],
  sharpness: ["Sharpen the result", "Das Ergebnis schärfen"],
  sharpened: ["sharpened {0}", "geschärft {0}"],
  guard: ["Guard: no texture that is an artifact", "Schutz: keine Textur, die ein Artefakt ist"],
  guarded: ["guarded", "mit Schutz"],
  format: ["Format", "Format"],
  keep_format: ["as the image", "wie das Bild"],
  quality: ["Quality (1 to 100)", "Qualität (1 bis 100)"],
  tolerant: ["Use what is there of damaged files", "Von beschädigten Dateien nehmen, was da ist"],
  start: ["Enlarge {0}", "{0} vergrößern"],
  start_none: ["Enlarge", "Vergrößern"],
  one_image: ["one image", "Ein Bild"],
  some_images: ["{0} images", "{0} Bilder"],
  zip: ["Download all (ZIP)", "Alle herunterladen (ZIP)"],
  clear: ["Remove all", "Alle entfernen"],
  sure: ["Remove all images and results?", "Alle Bilder und Ergebnisse entfernen?"],
  cancel_all: ["Cancel all", "Alle abbrechen"],
  total: ["All together about {0}.", "Alles zusammen etwa {0}."],
  left_all: ["About {0} left for all.", "Noch etwa {0} für alles."],
  images: ["Images", "Bilder"],
  empty: ["None yet.", "Noch keine."],
  looking: ["Being looked at …", "Wird angesehen …"],
  becomes: ["{0} → {1} pixels, about {2}", "{0} → {1} Pixel, etwa {2}"],
  too_large: ["{0} → {1} pixels: too large, choose a smaller size", "{0} → {1} Pixel: zu groß, bitte kleiner wählen"],
  video: ["video of {0} frames ({1})", "Video aus {0} Bildern ({1})"],
  animation: ["animation of {0} frames ({1})", "Animation aus {0} Bildern ({1})"],
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
  stopping: ["being cancelled …", "wird abgebrochen …"],
  left: ["about {0} left", "noch etwa {0}"],
  compare: ["Compare", "Vergleichen"],
  download: ["Download", "Herunterladen"],
  cancel: ["Cancel", "Abbrechen"],
  retry: ["Again", "Noch einmal"],
  remove: ["Remove", "Entfernen"],
  risk_show: ["What may be invented", "Was erfunden sein kann"],
  risk_legend: ["Orange: edges that contradict the image. Green: finer than it can show.", "Orange: Kanten, die dem Bild widersprechen. Grün: feiner, als es zeigen kann."],
  risk_share: ["{0} unsupported", "{0} nicht gedeckt"],
  supported: ["No invented structure found ({0} lack support in the image).", "Keine erfundene Struktur gefunden (vom Bild nicht gedeckt: {0})."],
  undecided: ["Some structure ({0}) is finer than the image can show: it may be right or invented.", "Manche Struktur ({0}) ist feiner, als das Bild zeigen kann: Sie kann stimmen oder erfunden sein."],
  doubtful: ["Some edges are doubtful ({0} lack support in the image).", "Manche Kanten sind zweifelhaft (vom Bild nicht gedeckt: {0})."],
  invented: ["Some structure is invented ({0} lack support in the image).", "Manche Struktur ist erfunden (vom Bild nicht gedeckt: {0})."],
  hardly_any: ["fewer than 1 in 10,000 edges", "weniger als 1 von 10.000 Kanten"],
  few: ["about {0} in 10,000 edges", "etwa {0} von 10.000 Kanten"],
  many: ["{0} of the edges", "{0} der Kanten"],
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
  sending: ["Files are being sent, {0} to go …", "Dateien werden gesendet, noch {0} …"],
  offline: ["The server does not answer. This page goes on when it does.", "Der Server antwortet nicht. Sobald er es tut, geht es hier weiter."],
  not_sent: ["“{0}” was not taken: {1}", "„{0}“ wurde nicht angenommen: {1}"],
};

// What the server says, and that in German, and in English where the page says it in other words:
// the sentence is found with any text at {0}, {1} ..., and what stood there is looked for in turn.
// What is not here, such as what no page asks for, is shown as the server says it.
const SAID = [
  // of the server
  ["The process that computed it ended in the middle, perhaps for lack of memory. Try again, or a smaller size.", "Der Prozess, der es berechnete, endete mittendrin, vielleicht aus Mangel an Speicher. Bitte noch einmal oder kleiner versuchen."],
  ["The server is stopping.", "Der Server wird beendet."],
  ["Cancelled.", "Abgebrochen."],
  ["{0} jobs are waiting, which is the most; try again later.", "{0} Aufträge warten, mehr geht nicht; bitte später noch einmal versuchen."],
  ["The image is still being looked at.", "Das Bild wird noch angesehen."],
  ["The guard compares the texture of RGB results, not of luma alone.", "Der Schutz vergleicht die Textur von RGB-Ergebnissen, nicht von Helligkeit allein."],
  ["The guard's faithful networks enlarge by {0}, this one not.", "Die treuen Netze des Schutzes vergrößern {0}, dieses nicht."],
  ["The disk of the server is full or fails ({0}).", "Die Platte des Servers ist voll oder defekt ({0})."],
  ["The disk of the server is full.", "Die Platte des Servers ist voll."],
  ["The server ended {0} times while it was being computed.", "Der Server endete {0}-mal, während es berechnet wurde."],
  ["An image of {0} x {1} pixels ({2} megapixels) is too large here: at most {3} megapixels are taken.", "Ein Bild von {0} × {1} Pixeln ({2} Megapixel) ist hier zu groß: Angenommen werden höchstens {3} Megapixel."],
  ["No structure risk: {0}", "Kein Strukturrisiko: {0}"],
  ["This server asks for its token: open the address it printed.", "Dieser Server verlangt sein Kennwort: Bitte die Adresse öffnen, die er ausgegeben hat."],
  ["The upload came to a stop, or is too slow.", "Das Hochladen ist stehen geblieben oder zu langsam."],
  ["The upload was cut short.", "Das Hochladen wurde abgebrochen."],
  ["The file is larger than {0} MB, the most that is taken.", "Die Datei ist größer als {0} MB; mehr wird nicht angenommen."],
  ["it holds more than {0} files, the most that are taken at once", "Es enthält mehr als {0} Dateien; so viele werden höchstens auf einmal angenommen"],
  ["File is not a zip file", "Es ist kein ganzes ZIP", "it is no whole ZIP"],
  ["it holds no file", "Es enthält keine Datei"],
  ["its files are larger than {0} MB, the most that is taken", "Sein Inhalt ist größer als {0} MB; mehr wird nicht angenommen"],
  ["an entry is longer than it says", "ein Eintrag ist länger, als er angibt"],
  ["a ZIP within a ZIP; unpack it first", "ein ZIP in einem ZIP; bitte erst auspacken"],
  ["bad CRC-32 for file {0}", "die Prüfsumme stimmt nicht"],
  ["file {0} is encrypted, password required for extraction", "die Datei ist verschlüsselt"],
  ["invalid data found when processing input", "die Daten sind keines"],
  ["The server cannot keep the file: {0}.", "Der Server kann die Datei nicht behalten: {0}."],
  ["There are no results.", "Es gibt keine Ergebnisse."],
  ["There is nothing of that id.", "Unter dieser Kennung gibt es nichts."],
  // of images
  ["{0} is empty (0 bytes).", "{0} ist leer (0 Byte)."],
  ["{0} is not an image (of {1} and {2}).", "{0} ist kein Bild (in {1} oder {2})."],
  ["{0} cannot be opened: {1}.", "{0} kann nicht geöffnet werden: {1}."],
  ["{0} is damaged: its tags name more bytes than it has.", "{0} ist beschädigt: Seine Felder nennen mehr Bytes, als es hat."],
  ["{0} cannot be decoded; the file is damaged or cut short ({1}).{2}", "{0} kann nicht gelesen werden; die Datei ist beschädigt oder abgeschnitten ({1}).{2}"],
  ["{0} is damaged.{1}", "{0} ist beschädigt.{1}"],
  [" The option 'tolerant' takes what is there.", " Der Schalter „Von beschädigten Dateien nehmen, was da ist“ hilft.", " Switch on “Use what is there of damaged files”."],
  ["is damaged or cut short: {0}", "Die Datei ist beschädigt oder abgeschnitten: {0}", "The file is damaged or cut short: {0}"],
  ["the rows from about {0} of {1} on are lost", "die Zeilen ab etwa {0} von {1} sind verloren"],
  ["parts are lost", "Teile sind verloren"],
  ["its last bytes are missing, but all rows are there", "Die letzten Bytes fehlen, aber alle Zeilen sind da", "The last bytes of the file are missing, but all rows are there"],
  ["{0} stores its samples as '{1}'; convert it to 8 or 16 bits.", "{0} speichert Werte als „{1}“; bitte in 8 oder 16 Bit umwandeln."],
  ["{0} is in '{1}'; grey, RGB or CMYK is needed.", "{0} ist in „{1}“; nötig ist Grau, RGB oder CMYK."],
  ["{0} has {1} channels; grey or RGB is needed.", "{0} hat {1} Kanäle; nötig ist Grau oder RGB."],
  ["Rows {0} to {1} cannot be read: of {2} rows those before {3} are gone.", "Die Zeilen {0} bis {1} können nicht gelesen werden: Von {2} Zeilen sind die vor {3} fort."],
  ["{0} is closed.", "{0} ist geschlossen."],
  ["{0} is in CIE Lab of 8 bits, which libvips does not read; convert it to RGB.", "{0} ist in CIE Lab mit 8 Bit, was libvips nicht liest; bitte in RGB umwandeln."],
  ["{0} has to be turned, for which '{1}' needs {2} MB and has {3}; make room or set TMPDIR to another folder.", "{0} muss gedreht werden, wofür auf der Platte des Servers {2} MB frei sein müssen.", "{0} has to be turned, for which {2} MB have to be free on the disk of the server."],
  ["{0} is {1} x {2} pixels; at most {3} million are read. Cut it into parts first.", "{0} hat {1} × {2} Pixel; gelesen werden höchstens {3} Millionen. Bitte erst zerteilen."],
  ["{0} is {1}, which the libvips at hand does not decode; convert it to PNG, JPEG or AVIF.", "{0} ist {1}, was hier nicht gelesen werden kann; bitte in PNG, JPEG oder AVIF umwandeln.", "{0} is {1}, which cannot be read here; convert it to PNG, JPEG or AVIF."],
  ["{0} is {1}, which needs the package pillow: pip install 'edgekeeper[image]'.", "{0} ist {1}, was hier nicht gelesen werden kann; bitte in PNG, JPEG oder AVIF umwandeln.", "{0} is {1}, which cannot be read here; convert it to PNG, JPEG or AVIF."],
  ["{0} is HEIC, which needs pillow-heif: pip install 'edgekeeper[heif]'. Or convert it to PNG, JPEG or AVIF.", "{0} ist HEIC, was hier nicht gelesen werden kann; bitte in PNG, JPEG oder AVIF umwandeln.", "{0} is HEIC, which cannot be read here; convert it to PNG, JPEG or AVIF."],
  ["{0} is a TIFF of a form that is not supported ({1}); save it with 8 or 16 bits and LZW or no compression.", "{0} ist ein TIFF in einer Form, die nicht unterstützt wird ({1}); bitte mit 8 oder 16 Bit und LZW oder ohne Kompression speichern."],
  ["{0} would be {1} pixels on a side; {2} ends at {3}. Write {4}.", "{0} hätte {1} Pixel auf einer Seite; {2} endet bei {3}. Bitte als Format {4} wählen.", "{0} would be {1} pixels on a side; {2} ends at {3}. Choose the format {4}."],
  ["{0} would be {1} x {2} pixels; {3} is written up to {4} million. Write {5}.", "{0} hätte {1} × {2} Pixel; {3} wird bis {4} Millionen geschrieben. Bitte als Format {5} wählen.", "{0} would be {1} x {2} pixels; {3} is written up to {4} million. Choose the format {5}."],
  ["{0} cannot be written: {1} has no transparency. Write PNG, WebP or TIFF.", "{0} kann nicht geschrieben werden: {1} kennt keine Transparenz. Bitte als Format PNG, WebP oder TIFF wählen.", "{0} cannot be written: {1} has no transparency. Choose the format PNG, WebP or TIFF."],
  ["{0} cannot be written: {1}.", "{0} kann nicht geschrieben werden: {1}."],
  ["{0} cannot be upscaled: {1}", "{0} kann nicht vergrößert werden: {1}"],
  ["the result", "das Ergebnis"],
  ["no space left on device", "die Platte des Servers ist voll", "the disk of the server is full"],
  ["there is not enough memory", "der Speicher reicht nicht"],
  ["converted from CIE Lab to sRGB", "Von CIE Lab in sRGB umgewandelt"],
  ["converted from CMYK to sRGB", "Von CMYK in sRGB umgewandelt"],
  ["took the first frame of an animation", "Das erste Bild einer Animation genommen"],
  ["took the main one of {0} images", "Das Hauptbild von {0} genommen"],
  ["took the first of {0} frames", "Das erste von {0} Bildern genommen"],
  ["took the first of {0} pages", "Die erste von {0} Seiten genommen"],
  ["rounded 16 bits to {0}, the most that {1} holds", "16 Bit auf {0} gerundet, mehr fasst {1} nicht"],
  ["wrote grey as equal red, green and blue, since {0} has no grey", "Grau als gleiches Rot, Grün und Blau geschrieben, da {0} kein Grau kennt"],
  ["looks clean: kept as it is", "Sieht sauber aus: so gelassen"],
  ["looks like {0}: restoring at {1}; style 'faithful' keeps it as it is", "Sieht nach {0} aus: mit Stärke {1} wiederhergestellt; der Stil „Treu“ lässt es, wie es ist", "looks like {0}: restored at {1}; the style “Faithful” keeps it as it is"],
  ["looks like {0}: kept as it is, only {1} restores; style 'restore' goes by way of it", "Sieht nach {0} aus: so gelassen, nur {1} stellt wieder her; der Stil „Wiederherstellen“ nimmt diesen Weg", "looks like {0}: kept as it is, only {1} restores; the style “Restore” goes by way of it"],
  ["looks like {0}: kept as it is", "Sieht nach {0} aus: so gelassen"],
  ["JPEG about quality {0}, noise {1}", "JPEG mit Qualität etwa {0} und Rauschen {1}"],
  ["JPEG about quality {0}", "JPEG mit Qualität etwa {0}"],
  ["noise {0}", "Rauschen {0}"],
  ["Memory ran out; the image was made in tiles of {0} pixels.", "Der Speicher reichte nicht; das Bild wurde in Kacheln von {0} Pixeln berechnet."],
  ["An image of {0} x {1} pixels needs more memory than there is, even in tiles of {2} pixels. Close other programs or cut it into parts.", "Ein Bild von {0} × {1} Pixeln braucht mehr Speicher, als da ist, auch in Kacheln von {2} Pixeln. Bitte andere Programme schließen oder es zerteilen."],
  ["{0} ran the network in {1}.", "{0} hat das Netz in {1} gerechnet."],
  ["A tile that failed in bfloat16 was done again in float32.", "Eine Kachel, die in bfloat16 misslang, wurde in float32 neu berechnet."],
  ["This network {0}; float32 was used.", "Dieses Netz liefert in bfloat16 ungültige Werte; es wurde in float32 gerechnet."],
  ["In bfloat16 this network differs by {0} grey levels in the mean ({1} dB); float32 was used.", "In bfloat16 weicht dieses Netz im Mittel um {0} Graustufen ab ({1} dB); es wurde in float32 gerechnet."],
  ["{0} has {1}x{2} pixels and {3} {4}x{5}: the result must be 2, 3, 4 or another whole number of times as large, the same on both sides. Give the input first, then the result.", "gemessen wird es nur, wo das Ergebnis auf beiden Seiten gleich und um eine ganze Zahl größer ist; hier {1} × {2} und {4} × {5} Pixel.", "it is measured where the result is a whole number of times as large, the same on both sides; here {1} × {2} and {4} × {5} pixels."],
  // of videos
  ["A video needs av, which is not installed; run: pip install 'edgekeeper[video]'", "Videos können hier nicht gelesen werden; wer den Server betreibt, kann es einrichten: pip install 'edgekeeper[video]'", "Videos cannot be read here; whoever runs the server can add that: pip install 'edgekeeper[video]'"],
  ["There is no file {0}.", "Es gibt keine Datei {0}."],
  ["{0} is damaged or no video: {1}.", "{0} ist beschädigt oder kein Video: {1}."],
  ["{0} has a video stream of a codec that is not known.", "{0} hat ein Video in einem Codec, der nicht bekannt ist."],
  ["{0} has no video stream.", "{0} enthält kein Video."],
  ["{0} holds no frame that can be decoded.", "{0} enthält kein Bild, das gelesen werden kann."],
  ["{0} has frames of the pixel format '{1}', which cannot be read. Convert it first, for example to yuv420p10le.", "{0} hat Bilder im Pixelformat „{1}“, das nicht gelesen werden kann. Bitte erst umwandeln, etwa in yuv420p10le."],
  ["{0} changes the size of its frames, from {1} x {2} to {3} x {4}; cut it there first.", "{0} ändert die Größe seiner Bilder, von {1} × {2} zu {3} × {4}; bitte dort zerschneiden."],
  ["{0} is damaged: {1} of its {2} frames can be decoded.{3}", "{0} ist beschädigt: {1} von {2} Bildern können gelesen werden.{3}"],
  ["{0} is cut off or damaged: {1}.{2}", "{0} ist abgeschnitten oder beschädigt: {1}.{2}"],
  ["a part of it is missing or cannot be read", "ein Teil fehlt oder kann nicht gelesen werden"],
  ["the last {0} seconds are missing", "die letzten {0} Sekunden fehlen"],
  ["{0} of its {1} frames are there", "{0} von {1} Bildern sind da"],
  ["It is damaged: {0} of {1} frames are there.", "Es ist beschädigt: {0} von {1} Bildern sind da."],
  ["Frames of the pixel format '{0}' cannot be read.", "Bilder im Pixelformat „{0}“ können nicht gelesen werden."],
  ["The file does not say how its colours are coded; {0} was taken, as is usual for {1} x {2}, and the result says so.", "Die Datei sagt nicht, wie ihre Farben kodiert sind; genommen wurde {0}, wie bei {1} × {2} üblich, und das Ergebnis sagt es."],
  ["The colour matrix with the code {0} is not known here; BT.2020 was taken for the networks, and the result is tagged with it.", "Die Farbmatrix mit der Nummer {0} ist hier nicht bekannt; für die Netze wurde BT.2020 genommen, und das Ergebnis sagt es."],
  ["The video is interlaced; its frames are enlarged with both fields in them. Deinterlace it first.", "Das Video hat Halbbilder; sie werden zusammen vergrößert. Bitte vorher entflechten."],
  ["Its transparency is left out.", "Die Transparenz wird weggelassen."],
  ["It is HDR ({0}): the networks see the coded values, and what the file says of the mastering display is not kept.", "Es ist HDR ({0}): Die Netze sehen die kodierten Werte, und Angaben zum Bildschirm der Herstellung gehen verloren."],
  ["A video of {0} x {1} pixels is too small.", "Ein Video von {0} × {1} Pixeln ist zu klein."],
  ["Frames of {0} x {1} cannot be written as {2}: the last row or column is left out.", "Bilder von {0} × {1} können nicht als {2} geschrieben werden: Die letzte Zeile oder Spalte entfällt."],
  ["{0} writes {1} of the {2} bits here.", "{0} schreibt hier {1} der {2} Bit."],
  ["{0} stores colour at a lower resolution ({1}).", "{0} speichert Farbe gröber ({1})."],
  ["Its stream {0} of other data is not copied.", "Der Strom {0} mit anderen Daten wird nicht kopiert."],
  ["A {0} file cannot be written with what is to be in it: {1}. Choose a name that ends in .mkv, or another codec.", "Eine Datei {0} kann mit diesem Inhalt nicht geschrieben werden: {1}. Bitte das Video vorher in .mkv umwandeln.", "A {0} file cannot be written with what is to be in it: {1}. Convert the video to .mkv first."],
  ["A {0} file cannot hold its {1} ({2}). Choose a name that ends in .mkv, or in what the source ends.", "Eine Datei {0} fasst {1} ({2}) nicht. Bitte das Video vorher in .mkv umwandeln.", "A {0} file cannot hold its {1} ({2}). Convert the video to .mkv first."],
  ["The unfinished video in '{0}' was begun with another encoder; remove that folder and begin again.", "Das unfertige Video wurde mit einem anderen Kodierer begonnen; bitte diesen Auftrag entfernen und neu beginnen.", "The unfinished video was begun with another encoder; remove this job and begin again."],
  ["The folder '{0}' for the unfinished video cannot be made: {1}.", "Der Ordner „{0}“ für das unfertige Video kann nicht angelegt werden: {1}."],
  ["The encoder {0} lost frames or changed their times.", "Der Kodierer {0} verlor Bilder oder änderte ihre Zeiten."],
  // what an option is
  ["'{0}' is {1}.", "„{0}“ ist {1}.", "“{0}” is {1}."],
  ["scale", "Faktor", "Factor"],
  ["a number above 0, at most 64", "eine Zahl über 0, höchstens 64"],
  ["quality", "Qualität", "Quality"],
  ["a whole number from 1 to 100", "eine ganze Zahl von 1 bis 100"],
];

const stored = localStorage.getItem("language");
let language = LANGUAGES.includes(stored) ? stored : navigator.language.startsWith("de") ? "de" : "en";

export function text(key, ...values) {
  return TEXTS[key][LANGUAGES.indexOf(language)].replace(/\{(\d)\}/g, (_, n) => values[n]);
}

const patterns = SAID.map(([sentence, german, english = sentence]) => {
  const places = [...sentence.matchAll(/\{(\d)\}/g)].map((found) => found[1]);
  const plain = sentence.replace(/[.*+?^$()|[\]\\]/g, "\\$&").replace(/\{\d\}/g, "(.*?)");
  return { pattern: new RegExp(`^${plain}$`, "is"), places, in: { en: english, de: german } };
});

// A sentence of the server, in the language that is shown and the words of the page.
export function said(sentence) {
  for (const { pattern, places, in: words } of patterns) {
    const found = sentence.match(pattern);
    if (!found) continue;
    const local = (part) => (/^\d+\.\d+$/.test(part) ? number(Number(part), 2) : said(part));
    const values = Object.fromEntries(places.map((place, n) => [place, local(found[n + 1])]));
    return words[language].replace(/\{(\d)\}/g, (_, n) => values[n]);
  }
  return sentence;
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
  if (seconds < 90) return `${number(Math.max(1, Math.round(seconds)))} s`;
  if (seconds < 5400) return `${number(Math.round(seconds / 60))} min`;
  return `${number(seconds / 3600, 1)} h`;
}

export function number(value, digits = 0) {
  return value.toLocaleString(language, { maximumFractionDigits: digits });
}

export function percent(value) {
  return value.toLocaleString(language, { style: "percent", maximumSignificantDigits: 2 });
}

// A share of the edges, as people count: 0.03% are 3 in 10,000.
export function shareOfEdges(share) {
  if (share < SMALLEST) return text("hardly_any");
  return share < 0.01 ? text("few", number(share / SMALLEST)) : text("many", percent(share));
}

// A percentage for a short label, nothing below 0.01%.
export const atMost = (share) => (share < SMALLEST ? `< ${percent(SMALLEST)}` : percent(share));
