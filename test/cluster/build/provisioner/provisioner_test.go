package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

func request(placement, node string) controller.ProvisionOptions {
	reclaim := v1.PersistentVolumeReclaimDelete
	return controller.ProvisionOptions{
		PVName:           "pvc-1",
		SelectedNodeName: node,
		StorageClass:     &storagev1.StorageClass{ReclaimPolicy: &reclaim, Parameters: map[string]string{"placement": placement}},
		PVC: &v1.PersistentVolumeClaim{Spec: v1.PersistentVolumeClaimSpec{
			AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
			Resources:   v1.VolumeResourceRequirements{Requests: v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")}},
		}},
	}
}

func TestAVolumeIsADirectoryThatItsGroupCanWrite(t *testing.T) {
	tests := map[string]struct{ placement, node, folder, label, value string }{
		"for any node":             {"any", "", "any", v1.LabelOSStable, "linux"},
		"for any node, one chosen": {"any", "node2", "any", v1.LabelOSStable, "linux"},
		"bound to a node":          {"node", "node2", "node/node2", v1.LabelHostname, "node2"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d := &directories{root: t.TempDir()}
			pv, _, err := d.Provision(context.Background(), request(test.placement, test.node))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(d.root, test.folder, "pvc-1")
			if pv.Spec.Local.Path != path {
				t.Errorf("it lies at %s, want %s", pv.Spec.Local.Path, path)
			}
			info, err := os.Stat(path)
			if err != nil || info.Mode() != os.ModeDir|os.ModeSetgid|0o775 {
				t.Errorf("its mode is %v (%v)", info.Mode(), err)
			}
			needs := pv.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0]
			if needs.Key != test.label || needs.Values[0] != test.value {
				t.Errorf("it can be used on nodes with %v", needs)
			}
			if err := os.WriteFile(filepath.Join(path, "data"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := d.Delete(context.Background(), pv); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(path); !os.IsNotExist(err) {
				t.Errorf("it is left after its deletion: %v", err)
			}
		})
	}
}

func TestVolumesThatAreNotMade(t *testing.T) {
	block := request("any", "")
	mode := v1.PersistentVolumeBlock
	block.PVC.Spec.VolumeMode = &mode
	tests := map[string]controller.ProvisionOptions{
		"an unknown placement":        request("zone", ""),
		"bound to a node, none given": request("node", ""),
		"a block device":              block,
	}
	for name, options := range tests {
		t.Run(name, func(t *testing.T) {
			if _, _, err := (&directories{root: t.TempDir()}).Provision(context.Background(), options); err == nil {
				t.Error("it was made")
			}
		})
	}
}

func TestNothingOutsideTheRootIsDeleted(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	d := &directories{root: root}
	for _, path := range []string{outside, root, root + "/../" + filepath.Base(outside), root + "-other"} {
		pv := &v1.PersistentVolume{Spec: v1.PersistentVolumeSpec{PersistentVolumeSource: v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: path}}}}
		if err := d.Delete(context.Background(), pv); err == nil {
			t.Errorf("deleted %s", path)
		}
	}
	for _, dir := range []string{root, outside} {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
}

func TestOnlyABoundClaimThatAsksForMoreGrows(t *testing.T) {
	tests := map[string]struct {
		phase      v1.PersistentVolumeClaimPhase
		have, want string
		grows      bool
	}{
		"asks for more":             {v1.ClaimBound, "1Gi", "2Gi", true},
		"has what it asks for":      {v1.ClaimBound, "1Gi", "1024Mi", false},
		"has more than it asks for": {v1.ClaimBound, "2Gi", "1Gi", false},
		"is not bound yet":          {v1.ClaimPending, "0", "1Gi", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			claim := request("any", "").PVC
			claim.Spec.Resources.Requests[v1.ResourceStorage] = resource.MustParse(test.want)
			claim.Status.Phase = test.phase
			claim.Status.Capacity = v1.ResourceList{v1.ResourceStorage: resource.MustParse(test.have)}
			if _, grows := growth(claim); grows != test.grows {
				t.Errorf("grows: %v, want %v", grows, test.grows)
			}
		})
	}
}
