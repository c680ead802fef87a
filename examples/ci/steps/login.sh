#!/bin/sh
# Writes a kubeconfig with a token that lives for minutes: the CI's own identity, which the
# API server knows, or one that it gave for it. Nothing in it outlives the job.
#   API_SERVER  https://…              API_SERVER_CA  a file with its CA
#   TOKEN       the token              KUBECONFIG     where to write
#   NAMESPACE   the pipeline's namespace
set -eu
: "${API_SERVER:?}" "${API_SERVER_CA:?}" "${TOKEN:?}" "${KUBECONFIG:?}" "${NAMESPACE:?}"

umask 077
kubectl config set-cluster signing --server="$API_SERVER" --certificate-authority="$API_SERVER_CA" --embed-certs=true >/dev/null
# Not as an argument, which every process of the machine can read.
cat > "$KUBECONFIG.token" <<TOKEN_END
$TOKEN
TOKEN_END
kubectl config set users.ci.tokenFile "$KUBECONFIG.token" >/dev/null
kubectl config set-context signing --cluster=signing --user=ci --namespace="$NAMESPACE" >/dev/null
kubectl config use-context signing >/dev/null
kubectl get secret "${SECRET:=image-signing}" --output=name
