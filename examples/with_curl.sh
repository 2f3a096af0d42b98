#!/bin/sh
# Calibrate an exposure with curl alone:
#
#     sh examples/with_curl.sh exposure.fits REFCAT
#
# One form uploads the file and submits the job; the star catalogue comes as CSV.
set -eu
url=${VISITCAL_URL:-http://127.0.0.1:8470}

field() { # the first value of a name in JSON that comes in
    grep -o "\"$1\": *\"[^\"]*\"" | head -n 1 | cut -d '"' -f 4
}

job=$(curl --fail --silent --show-error "$url/v1/jobs" \
    --form "file=@$1" --form "parameters={\"references\": \"$2\"};type=application/json" | field id)
phase=QUEUED
while [ "$phase" = QUEUED ] || [ "$phase" = EXECUTING ]; do
    phase=$(curl --fail --silent --show-error "$url/v1/jobs/$job?wait=20" | field phase)
done
echo "$job $phase"
curl --fail --silent --show-error \
    "$url/v1/jobs/$job/catalogs/stars?format=csv&columns=ra,dec,psfMag&where=detect_isPrimary&order=psfMag" | head -n 4
