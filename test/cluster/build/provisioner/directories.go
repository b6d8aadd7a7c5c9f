package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// placementParameter is the StorageClass parameter that says where a volume can be used.
const placementParameter = "placement"

// directoryMode lets the group write, not the rest: the kubelet gives the
// directory to the pod's fsGroup, and a pod that forgot its fsGroup fails here
// as it would on a real disk. The setgid bit keeps new files in that group.
const directoryMode = os.ModeSetgid | 0o775

// directories makes and deletes the directories under root.
type directories struct {
	root string
}

// Provision makes the directory of one volume and returns the PersistentVolume that names it.
func (d *directories) Provision(_ context.Context, o controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	if o.PVC.Spec.VolumeMode != nil && *o.PVC.Spec.VolumeMode == v1.PersistentVolumeBlock {
		return nil, controller.ProvisioningFinished, fmt.Errorf("volumeMode Block is not offered: volumes here are directories")
	}
	folder, affinity, err := place(o.StorageClass.Parameters[placementParameter], o.SelectedNodeName)
	if err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	path := filepath.Join(d.root, folder, o.PVName)
	if err := os.MkdirAll(path, 0o775); err != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("making the volume's directory: %w", err)
	}
	// MkdirAll's mode passes through the umask; Chmod's does not.
	if err := os.Chmod(path, directoryMode); err != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("opening the volume's directory to its group: %w", err)
	}
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: o.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
			AccessModes:                   o.PVC.Spec.AccessModes,
			MountOptions:                  o.StorageClass.MountOptions,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: o.PVC.Spec.Resources.Requests[v1.ResourceStorage]},
			PersistentVolumeSource:        v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: path}},
			NodeAffinity:                  affinity,
		},
	}, controller.ProvisioningFinished, nil
}

// place says in which folder a volume lies and which nodes can use it.
func place(placement, node string) (string, *v1.VolumeNodeAffinity, error) {
	switch {
	case placement == "any":
		return "any", nodesWith(v1.LabelOSStable, "linux"), nil
	case placement == "node" && node != "":
		return filepath.Join("node", node), nodesWith(v1.LabelHostname, node), nil
	case placement == "node":
		return "", nil, fmt.Errorf("no node was chosen for the volume: a class with placement %q needs volumeBindingMode WaitForFirstConsumer", placement)
	}
	return "", nil, fmt.Errorf("the class's parameter placement is %q: it must be any or node", placement)
}

func nodesWith(label, value string) *v1.VolumeNodeAffinity {
	return &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
		MatchExpressions: []v1.NodeSelectorRequirement{{Key: label, Operator: v1.NodeSelectorOpIn, Values: []string{value}}},
	}}}}
}

// Delete removes the volume's directory with all that is in it.
func (d *directories) Delete(_ context.Context, pv *v1.PersistentVolume) error {
	if pv.Spec.Local == nil {
		return fmt.Errorf("volume %s is not a local volume", pv.Name)
	}
	path := filepath.Clean(pv.Spec.Local.Path)
	// A PersistentVolume is anyone's to edit: never delete outside the root.
	if !strings.HasPrefix(path, filepath.Clean(d.root)+string(filepath.Separator)) {
		return fmt.Errorf("volume %s lies at %s, outside %s", pv.Name, path, d.root)
	}
	return os.RemoveAll(path)
}
