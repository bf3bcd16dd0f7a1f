//go:build tools

// Programs that are built from this module's lock file, and not a part of what it compiles by itself.
package tools

import (
	_ "github.com/yannh/kubeconform/cmd/kubeconform"
	_ "helm.sh/helm/v3/cmd/helm"
	_ "sigs.k8s.io/gateway-api/apis/v1"
	_ "sigs.k8s.io/kustomize/kustomize/v5"
)
