package sim

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/resources"
)

// settledKinds are the kinds that an end state is made of.
var settledKinds = []string{
	"EtcdCluster", "PersistentVolumeClaim", "Pod", "Secret", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy",
}

// End is the state of the world, made comparable between runs: without times,
// versions, addresses and nodes, with names instead of UIDs, and of Secrets only
// which keys they hold.
func (w *World) End() string { return w.end(func(*corev1.Pod) {}) }

// EndUnfilled is End without what fills the volumes of pods from a backup: a founder whose pod is
// only made when a majority of the others has founded begins without it, and gets from them what it
// holds. What was filled is checked when it is.
func (w *World) EndUnfilled() string { return w.end(unfilled) }

func (w *World) end(apart func(*corev1.Pod)) string {
	named := map[string]string{}
	for _, kind := range settledKinds {
		for _, o := range w.API.all(kind) {
			named[string(o.GetUID())] = kind + "/" + o.GetName()
		}
	}
	var out strings.Builder
	for _, kind := range settledKinds {
		for _, o := range w.API.all(kind) {
			o := copyOf(o)
			o.SetUID("")
			o.SetResourceVersion("")
			o.SetCreationTimestamp(metav1.Time{})
			o.SetManagedFields(nil)
			o.SetAnnotations(lasting(o.GetAnnotations()))
			switch o := o.(type) {
			case *v1alpha1.EtcdCluster:
				normalise(&o.Status)
				if w.check.statusLost {
					o.Status.FounderVolumes = nil
				}
			case *corev1.Pod:
				o.Generation = 0
				o.Spec.NodeName = ""
				apart(o)
				o.Status = corev1.PodStatus{Phase: o.Status.Phase, Conditions: o.Status.Conditions}
			case *corev1.Secret:
				o.StringData = map[string]string{"keys": strings.Join(slices.Sorted(maps.Keys(o.Data)), ",")}
				o.Data = nil
			}
			raw, err := json.MarshalIndent(o, "", " ")
			if err != nil {
				panic(fmt.Sprintf("encoding what was decoded: %v", err))
			}
			fmt.Fprintf(&out, "%s %s\n%s\n", kind, o.GetName(), raw)
		}
	}
	return uidPattern.ReplaceAllStringFunc(w.aboveFloor(out.String()), func(uid string) string {
		if name, known := named[uid]; known {
			return name
		}
		return "unknown"
	})
}

// unfilled takes out of a pod what fills its volume.
func unfilled(pod *corev1.Pod) {
	delete(pod.Annotations, v1alpha1.AnnotationRestoreWay)
	spec := &pod.Spec
	spec.InitContainers = slices.DeleteFunc(spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == resources.RestoreContainer || c.Name == resources.InstallContainer
	})
	mounted := map[string]bool{}
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		for _, m := range c.VolumeMounts {
			mounted[m.Name] = true
		}
	}
	spec.Volumes = slices.DeleteFunc(spec.Volumes, func(v corev1.Volume) bool { return !mounted[v.Name] })
}

// aboveFloor says of revisions how far they are above the one that the cluster was raised to,
// which is made from the time when it was.
func (w *World) aboveFloor(text string) string {
	c := w.Cluster()
	if c == nil || c.Status.RevisionFloor == 0 {
		return text
	}
	return floorPattern.ReplaceAllStringFunc(text, func(digits string) string {
		revision, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			panic(fmt.Sprintf("16 digits are no number: %v", err))
		}
		above := revision - c.Status.RevisionFloor
		if above <= -aSecond || above >= aSecond {
			return "another floor" // of an incarnation that was given up
		}
		return fmt.Sprintf("floor%+d", above)
	})
}

// aSecond is how many revisions a second of the clock has for itself.
const aSecond = 1_000_000

// floorPattern is a revision that was made from a time of these decades.
var floorPattern = regexp.MustCompile(`\b[1-9]\d{15}\b`)

// lasting are the annotations without those that may differ between two good runs.
func lasting(annotations map[string]string) map[string]string {
	annotations = maps.Clone(annotations)
	delete(annotations, v1alpha1.AnnotationNode)
	delete(annotations, v1alpha1.AnnotationFence)
	// Written only when etcd could not be asked for a while.
	delete(annotations, v1alpha1.AnnotationBooted)
	if annotations[v1alpha1.AnnotationTrust] != "" {
		annotations[v1alpha1.AnnotationTrust] = "the hash of what is random"
	}
	return annotations
}

var uidPattern = regexp.MustCompile(`00000000-0000-4000-8000-\d{12}`)

// normalise takes out of a status what may differ between two good runs.
func normalise(s *v1alpha1.EtcdClusterStatus) {
	if s.Recovery != nil {
		// A kill delays it.
		s.Recovery.Time = metav1.Time{}
	}
	s.Leader = ""
	// Whoever has lost status believes that the logs hold entries of etcd 3.5.
	s.OldEntries = 0
	// When the data is compared depends on when the operator has started, and a failure is
	// told until its pause is over.
	s.Conditions = slices.DeleteFunc(s.Conditions, func(c metav1.Condition) bool {
		return c.Type == v1alpha1.ConditionDataConsistent && c.Status == metav1.ConditionTrue || c.Type == v1alpha1.ConditionDefragmentationFailed
	})
	if s.TLS != nil {
		for i := range s.TLS.Authorities {
			s.TLS.Authorities[i].NotAfter = nil
		}
	}
	for i := range s.Conditions {
		s.Conditions[i].LastTransitionTime = metav1.Time{}
	}
	slices.SortFunc(s.Conditions, func(a, b metav1.Condition) int { return strings.Compare(a.Type, b.Type) })
}

// Shape is the end state of a change of membership, without names and numbers: a
// crash may cost a name. What belongs together must have been checked before.
func (w *World) Shape() string {
	c := w.Cluster()
	if c == nil {
		return fmt.Sprintf("no cluster, %d pods, %d claims, %d secrets",
			len(w.API.all("Pod")), len(w.API.all("PersistentVolumeClaim")), len(w.API.all("Secret")))
	}
	var out strings.Builder
	fmt.Fprintf(&out, "size %d, summary %s, replicas %d\n", c.Spec.Size, c.Status.MembersSummary, c.Status.Replicas)
	normalise(&c.Status)
	for _, condition := range c.Status.Conditions {
		fmt.Fprintf(&out, "%s %s %s\n", condition.Type, condition.Status, condition.Reason)
	}
	var quarantined []string
	for _, o := range w.API.all("PersistentVolumeClaim") {
		if why, is := o.GetLabels()[v1alpha1.LabelQuarantined]; is {
			quarantined = append(quarantined, why)
		}
	}
	fmt.Fprintf(&out, "quarantined %v\n", quarantined)
	for _, kind := range settledKinds {
		fmt.Fprintf(&out, "%d of %s\n", len(w.API.all(kind)), kind)
	}
	for _, o := range w.API.all("PodDisruptionBudget") {
		fmt.Fprintf(&out, "budget %v\n", o.(*policyv1.PodDisruptionBudget).Spec.MinAvailable)
	}
	return out.String()
}

// changesText lists what was written, in order: two runs with the same list are
// the same run.
func (w *World) changesText() string {
	var out strings.Builder
	for _, c := range w.API.changes {
		version := "gone"
		if c.after != nil {
			version = c.after.GetResourceVersion()
		}
		fmt.Fprintf(&out, "%s %s %s\n", c.kind, c.key.Name, version)
	}
	return out.String()
}
