package main

import (
	"context"
	"fmt"
	"strings"
)

// object is one thing that the cluster starts with, and its path in the API.
type object struct {
	path    string
	content map[string]any
}

// addons are what a cluster needs besides its control plane: rights for DNS and
// the provisioner, the DNS Service, and two storage classes.
func addons() []object {
	return []object{
		role(dnsUser,
			rule("", "endpoints,services,pods,namespaces", "list,watch"),
			rule("discovery.k8s.io", "endpointslices", "list,watch"),
			rule("", "nodes", "get"),
		),
		binding(dnsUser),
		role(provisionerUser,
			rule("", "persistentvolumes", "get,list,watch,create,patch,update,delete"),
			rule("", "persistentvolumeclaims", "get,list,watch,patch,update"),
			rule("", "persistentvolumeclaims/status", "patch,update"),
			rule("storage.k8s.io", "storageclasses", "get,list,watch"),
			rule("", "nodes", "get,list,watch"),
			rule("", "events", "create,patch,update"),
		),
		binding(provisionerUser),
		storageClass("standard", "Immediate", "any", "true"),
		storageClass("local", "WaitForFirstConsumer", "node", "false"),
		dnsService(),
		dnsEndpoints(),
	}
}

func applyAddons(ctx context.Context, c *client) error {
	for _, o := range addons() {
		if err := c.apply(ctx, o.path, o.content); err != nil {
			return fmt.Errorf("installing the cluster's own objects: %w", err)
		}
	}
	return nil
}

func rule(group, resources, verbs string) map[string]any {
	return map[string]any{"apiGroups": []string{group}, "resources": strings.Split(resources, ","), "verbs": strings.Split(verbs, ",")}
}

func role(name string, rules ...map[string]any) object {
	return object{
		path: "/apis/rbac.authorization.k8s.io/v1/clusterroles/" + name,
		content: map[string]any{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
			"metadata": map[string]any{"name": name},
			"rules":    rules,
		},
	}
}

// binding gives the user the role of the same name.
func binding(user string) object {
	return object{
		path: "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/" + user,
		content: map[string]any{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
			"metadata": map[string]any{"name": user},
			"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user},
			"subjects": []any{map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}},
		},
	}
}

func storageClass(name, bindingMode, placement, isDefault string) object {
	return object{
		path: "/apis/storage.k8s.io/v1/storageclasses/" + name,
		content: map[string]any{
			"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
			"metadata": map[string]any{
				"name":        name,
				"annotations": map[string]any{"storageclass.kubernetes.io/is-default-class": isDefault},
			},
			"provisioner":          provisionerName,
			"parameters":           map[string]any{"placement": placement},
			"reclaimPolicy":        "Delete",
			"volumeBindingMode":    bindingMode,
			"allowVolumeExpansion": true,
		},
	}
}

var dnsPorts = []any{
	map[string]any{"name": "dns", "protocol": "UDP", "port": 53},
	map[string]any{"name": "dns-tcp", "protocol": "TCP", "port": 53},
}

// dnsService has no selector: CoreDNS is not a pod, dnsEndpoints says where it is.
func dnsService() object {
	return object{
		path: "/api/v1/namespaces/kube-system/services/kube-dns",
		content: map[string]any{
			"apiVersion": "v1", "kind": "Service",
			"metadata": map[string]any{"name": "kube-dns", "namespace": "kube-system", "labels": map[string]any{"k8s-app": "kube-dns"}},
			"spec":     map[string]any{"clusterIP": dnsServiceIP, "ports": dnsPorts},
		},
	}
}

func dnsEndpoints() object {
	return object{
		path: "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns",
		content: map[string]any{
			"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
			"metadata": map[string]any{
				"name": "kube-dns", "namespace": "kube-system",
				"labels": map[string]any{"kubernetes.io/service-name": "kube-dns"},
			},
			"addressType": "IPv4",
			"endpoints":   []any{map[string]any{"addresses": []string{bridgeAddress}, "conditions": map[string]any{"ready": true}}},
			"ports":       dnsPorts,
		},
	}
}
