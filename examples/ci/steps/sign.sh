#!/bin/sh
# Signs an image by its digest, with the key that the ring has now. The key is read for this
# one signature and stands nowhere.
#   sign.sh REGISTRY/REPOSITORY@sha256:DIGEST        NAMESPACE, SECRET (image-signing)
set -eu
: "${NAMESPACE:?}" "${SECRET:=image-signing}"
image=${1:?"usage: $0 REPOSITORY@sha256:DIGEST"}

case $image in
*@sha256:*) ;;
*)
	echo "$image: a tag can point elsewhere by the time it is signed; name the digest" >&2
	exit 2
	;;
esac

version() {
	kubectl get secret "$SECRET" --namespace="$NAMESPACE" \
		--output=jsonpath='{.metadata.annotations.signing\.odj\.cloud/version}'
}

# A ring may rotate at any moment. What was signed with the key of before is accepted for
# as long as that is in the window; sign again, so that it is for the whole of it.
for attempt in 1 2 3; do
	before=$(version)
	cosign sign --yes --key "k8s://$NAMESPACE/$SECRET" \
		--new-bundle-format=false --use-signing-config=false --tlog-upload=false "$image"
	if [ "$before" = "$(version)" ]; then
		echo "$image: signed with version $before"
		exit 0
	fi
	echo "$image: the ring has rotated meanwhile, so it is signed again ($attempt)" >&2
done
echo "$image: signed, but the ring rotates all the time" >&2
