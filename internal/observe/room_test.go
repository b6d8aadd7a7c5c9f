package observe

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/quorate/quorate/api/v1alpha1"
)

// bounds adds a quota that allows so much of what is named, of which so much is used.
func bounds(name, hard, used string, edits ...func(*corev1.ResourceQuota)) func(*world) {
	return func(w *world) {
		q := &corev1.ResourceQuota{ObjectMeta: others("team"), Status: corev1.ResourceQuotaStatus{
			Hard: corev1.ResourceList{corev1.ResourceName(name): resource.MustParse(hard)},
			Used: corev1.ResourceList{corev1.ResourceName(name): resource.MustParse(used)},
		}}
		for _, edit := range edits {
			edit(q)
		}
		w.objects = append(w.objects, q)
	}
}

func ofPods(q *corev1.ResourceQuota) {
	q.Spec.Scopes = []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeNotTerminating}
}

func ofSelected(q *corev1.ResourceQuota) {
	q.Spec.ScopeSelector = &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{{ScopeName: corev1.ResourceQuotaScopePriorityClass}}}
}

// withoutBackup has the restore blocked, whose turn does not come then.
func withoutBackup(w *world) {
	for _, o := range w.objects {
		if b, is := o.(*v1alpha1.EtcdBackup); is {
			w.remove(b)
		}
	}
}

// wasGiven has the volumes of a class that they were given as the default.
func wasGiven(name string) func(*world) {
	return func(w *world) {
		for _, o := range w.objects {
			if claim, is := o.(*corev1.PersistentVolumeClaim); is {
				claim.Spec.StorageClassName = &name
			}
		}
	}
}

func elsewhere(q *corev1.ResourceQuota) { q.Namespace = "other" }

func wantsClass(name string) func(*world) {
	return func(w *world) { w.cluster.Spec.Storage.StorageClassName = &name }
}

// class adds one that is so old, and whether it is the default.
func class(name, isDefault string, age time.Duration) func(*world) {
	return func(w *world) {
		w.objects = append(w.objects, &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{
			Name: name, Annotations: map[string]string{defaultClass: isDefault}, CreationTimestamp: metav1.NewTime(w.clock.Now().Add(-age)),
		}})
	}
}

// TestThereIsRoomForNewVolumes: before anybody is stopped for a restore in place, and beside the
// old volumes, which are kept. Three of ten gibibytes are needed.
func TestThereIsRoomForNewVolumes(t *testing.T) {
	refuses := func(err error) func(*world) {
		return func(w *world) {
			w.intercept = interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				if _, quotas := list.(*corev1.ResourceQuotaList); quotas {
					return err
				}
				return c.List(ctx, list, opts...)
			}}
		}
	}
	for name, tc := range map[string]struct {
		changes []func(*world)
		want    string // a part of what is lacking; empty for nothing
	}{
		"no quota":                        {nil, ""},
		"exactly enough claims":           {[]func(*world){bounds("persistentvolumeclaims", "6", "3")}, ""},
		"one too few":                     {[]func(*world){bounds("persistentvolumeclaims", "5", "3")}, "ResourceQuota team allows 5 of persistentvolumeclaims, of which 3 are used, and the volumes of 3 new members take 3"},
		"by the other name":               {[]func(*world){bounds("count/persistentvolumeclaims", "5", "3")}, "allows 5 of count/persistentvolumeclaims"},
		"exactly enough storage":          {[]func(*world){bounds("requests.storage", "60Gi", "30Gi")}, ""},
		"a little too little":             {[]func(*world){bounds("requests.storage", "61439Mi", "30Gi")}, "of which 30Gi are used, and the volumes of 3 new members take 30Gi"},
		"it was lowered below its use":    {[]func(*world){bounds("requests.storage", "10Gi", "30Gi")}, "allows 10Gi"},
		"another thing is bounded":        {[]func(*world){bounds("pods", "3", "3")}, ""},
		"for pods alone":                  {[]func(*world){bounds("requests.storage", "30Gi", "30Gi", ofPods)}, ""},
		"for selected pods":               {[]func(*world){bounds("requests.storage", "30Gi", "30Gi", ofSelected)}, ""},
		"in another namespace":            {[]func(*world){bounds("requests.storage", "30Gi", "30Gi", elsewhere)}, ""},
		"the second of two":               {[]func(*world){bounds("requests.storage", "90Gi", "30Gi"), bounds("requests.storage", "30Gi", "30Gi", func(q *corev1.ResourceQuota) { q.Name = "z" })}, "ResourceQuota z"},
		"of the class":                    {[]func(*world){class("fast", "", 0), wantsClass("fast"), bounds("fast.storageclass.storage.k8s.io/requests.storage", "50Gi", "30Gi")}, "fast.storageclass"},
		"claims of the class":             {[]func(*world){class("fast", "", 0), wantsClass("fast"), bounds("fast.storageclass.storage.k8s.io/persistentvolumeclaims", "5", "3")}, "fast.storageclass"},
		"of another class":                {[]func(*world){class("fast", "", 0), wantsClass("fast"), bounds("slow.storageclass.storage.k8s.io/requests.storage", "30Gi", "30Gi")}, ""},
		"of the default class":            {[]func(*world){class("fast", "true", 0), bounds("fast.storageclass.storage.k8s.io/requests.storage", "50Gi", "30Gi")}, "fast.storageclass"},
		"of the newest of two defaults":   {[]func(*world){class("a", "true", time.Hour), class("b", "true", 0), class("c", "true", 2*time.Hour), bounds("b.storageclass.storage.k8s.io/requests.storage", "50Gi", "30Gi")}, "b.storageclass"},
		"of a class that is not default":  {[]func(*world){class("fast", "false", 0), bounds("fast.storageclass.storage.k8s.io/requests.storage", "50Gi", "30Gi")}, ""},
		"the default is gone":             {[]func(*world){wasGiven("fast")}, `storage class "fast", which the volumes were given, does not exist, and none is the default`},
		"somebody chooses for each claim": {[]func(*world){wasGiven("fast"), class("fast", "", 0)}, ""},
		"the default is another one":      {[]func(*world){wasGiven("fast"), class("slow", "true", 0)}, ""},
		"nobody may see that it is gone":  {[]func(*world){wasGiven("fast"), func(w *world) { w.nodesHidden = true }}, ""},
		"it is blocked":                   {[]func(*world){withoutBackup, bounds("persistentvolumeclaims", "3", "3")}, ""},
		"the class is gone":               {[]func(*world){wantsClass("fast")}, `storage class "fast" does not exist`},
		"no class is wanted":              {[]func(*world){wantsClass("")}, ""},
		"classes may not be read":         {[]func(*world){wantsClass("fast"), func(w *world) { w.nodesHidden = true }}, ""},
		"nor may quotas":                  {[]func(*world){refuses(apierrors.NewForbidden(corev1.Resource("resourcequotas"), "", nil))}, ""},
		"five are wanted":                 {[]func(*world){func(w *world) { w.cluster.Spec.Size = 5 }, bounds("persistentvolumeclaims", "7", "3")}, "take 5"},
		"nobody wants one":                {[]func(*world){func(w *world) { w.observer.Restores = stale{} }, bounds("persistentvolumeclaims", "3", "3")}, ""},
		"it has begun":                    {[]func(*world){func(w *world) { w.cluster.Status.Restore = begunStatus() }, bounds("persistentvolumeclaims", "3", "3")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := toBeCarriedBack(t)
			w.cluster.Spec.Storage.Size = resource.MustParse("10Gi")
			for _, change := range tc.changes {
				change(w)
			}
			lack := w.see().VolumeLack
			if (lack == nil) != (tc.want == "") || lack != nil && !strings.Contains(lack.What, tc.want) {
				t.Errorf("what is lacking is %+v, want %q", lack, tc.want)
			}
		})
	}

	w := toBeCarriedBack(t)
	if said := w.see().Recovery; said.Safety != "back-safety" || said.SafetyRevision != 110 {
		t.Errorf("the word is %+v, and the safety backup back-safety holds revision 110", said)
	}
	w = toBeCarriedBack(t)
	broken := errors.New("the API server is away")
	refuses(broken)(w)
	if _, err := w.look(); !errors.Is(err, broken) {
		t.Errorf("quotas that cannot be read: %v", err)
	}
}
