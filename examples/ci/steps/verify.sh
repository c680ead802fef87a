#!/bin/sh
# Verifies an image as Kyverno does, with the public key of the version that signs now.
#   verify.sh REGISTRY/REPOSITORY@sha256:DIGEST      NAMESPACE, SECRET (image-signing)
set -eu
: "${NAMESPACE:?}" "${SECRET:=image-signing}"
image=${1:?"usage: $0 REPOSITORY@sha256:DIGEST"}

key=$(mktemp)
trap 'rm -f "$key"' EXIT
kubectl get secret "$SECRET" --namespace="$NAMESPACE" --output=jsonpath='{.data.cosign\.pub}' |
	base64 -d > "$key"
cosign verify --key "$key" --insecure-ignore-tlog=true --private-infrastructure=true "$image" >/dev/null
echo "$image: verified"
