#!/bin/sh
# Makes the quickstart's data: English text from the Debian package bible-kjv (public domain), one
# document a chapter; a byte-level BPE tokenizer trained on it; the tokenised dataset.
#   launcher/prepare_data.sh PROGRAM FOLDER
set -eu
program=$1
folder=$2

if [ -f "$folder/corpus.idx" ] && [ -f "$folder/tokenizer.json" ]; then exit 0; fi
command -v bible >/dev/null || {
  echo "cairn: the text comes from the Debian packages bible-kjv and bible-kjv-text;" \
       "run launcher/install_dependencies.sh" >&2
  exit 2
}
mkdir -p "$folder"
# Lines are "Ge1:1 text": the reference goes, and a form feed parts the chapters.
bible -f 'gen1:1-rev22:21' | awk '
  { chapter = $1; sub(/:.*/, "", chapter)
    if (NR > 1 && chapter != last) printf "\f\n"
    last = chapter
    sub(/^[^ ]+ /, ""); print }' > "$folder/corpus.txt.part"
mv "$folder/corpus.txt.part" "$folder/corpus.txt"
"$program" data train-tokenizer "$folder/corpus.txt" --vocab-size 4096 \
  --output "$folder/tokenizer.json"
"$program" data build "$folder/corpus.txt" --tokenizer "$folder/tokenizer.json" \
  --output "$folder/corpus"
