package sim

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
)

// protection keeps a claim while a pod uses it, as pvc-protection does.
const protection = "kubernetes.io/pvc-protection"

// change is what watchers hear of.
type change struct {
	kind string
	key  types.NamespacedName
	// before is nil for a creation, after for a deletion.
	before, after client.Object
}

// Server is an API server in memory, in the ways that the policy leans on: UIDs,
// one version counter, preconditions, optimistic locks, finalizers, graceful
// deletion of pods, a status subresource, and the defaults and the write-once
// rules of the custom resource's own schema. It stores typed objects and never
// changes one that it has stored.
type Server struct {
	now     func() time.Time
	objects map[string]map[types.NamespacedName]client.Object
	changes []change
	version int
	uids    int
}

func newServer(now func() time.Time) *Server {
	return &Server{now: now, objects: map[string]map[types.NamespacedName]client.Object{}}
}

// kindOf an object, or of the items of a list.
func kindOf(o any) string {
	return strings.TrimSuffix(reflect.TypeOf(o).Elem().Name(), "List")
}

func resourceOf(kind string) schema.GroupResource {
	return schema.GroupResource{Resource: strings.ToLower(kind) + "s"}
}

func copyOf[T client.Object](o T) T { return o.DeepCopyObject().(T) }

// assign makes to equal to a copy of from.
func assign(to, from client.Object) {
	reflect.ValueOf(to).Elem().Set(reflect.ValueOf(copyOf(from)).Elem())
}

func (s *Server) find(kind string, key types.NamespacedName) client.Object {
	return s.objects[kind][key]
}

// all objects of a kind, by name. They are the stored ones: never change them.
func (s *Server) all(kind string) []client.Object { return sorted(s.objects[kind]) }

func sorted(objects map[types.NamespacedName]client.Object) []client.Object {
	list := make([]client.Object, 0, len(objects))
	for _, o := range objects {
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b client.Object) int {
		return strings.Compare(a.GetNamespace()+"/"+a.GetName(), b.GetNamespace()+"/"+b.GetName())
	})
	return list
}

// put stores an object in a new version; nil removes it.
func (s *Server) put(kind string, key types.NamespacedName, o client.Object) {
	before := s.objects[kind][key]
	if o == nil {
		delete(s.objects[kind], key)
		s.changes = append(s.changes, change{kind, key, before, nil})
		return
	}
	s.version++
	o.SetResourceVersion(strconv.Itoa(s.version))
	if s.objects[kind] == nil {
		s.objects[kind] = map[types.NamespacedName]client.Object{}
	}
	s.objects[kind][key] = o
	s.changes = append(s.changes, change{kind, key, before, o})
}

// Create an object, as the API server fills it in.
func (s *Server) Create(o client.Object) error {
	kind, key := kindOf(o), client.ObjectKeyFromObject(o)
	if s.find(kind, key) != nil {
		return apierrors.NewAlreadyExists(resourceOf(kind), key.Name)
	}
	created := copyOf(o)
	s.uids++
	created.SetUID(types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012d", s.uids)))
	created.SetGeneration(1)
	created.SetCreationTimestamp(metav1.NewTime(s.now()))
	switch c := created.(type) {
	case *v1alpha1.EtcdCluster:
		c.Status = v1alpha1.EtcdClusterStatus{}
		if err := setDefaults(c); err != nil {
			return err
		}
	case *corev1.PersistentVolumeClaim:
		s.admitClaim(c)
	case *corev1.Pod:
		c.Status = corev1.PodStatus{Phase: corev1.PodPending}
	}
	s.put(kind, key, created)
	assign(o, created)
	return nil
}

// admitClaim fills in the default class, and protects the claim.
func (s *Server) admitClaim(c *corev1.PersistentVolumeClaim) {
	c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
	c.Finalizers = append(c.Finalizers, protection)
	if c.Spec.StorageClassName != nil {
		return
	}
	for _, class := range s.all("StorageClass") {
		if class.GetAnnotations()["storageclass.kubernetes.io/is-default-class"] == "true" {
			name := class.GetName()
			c.Spec.StorageClassName = &name
		}
	}
}

// Delete an object on the conditions of the options.
func (s *Server) Delete(o client.Object, options client.DeleteOptions) error {
	kind, key := kindOf(o), client.ObjectKeyFromObject(o)
	live := s.find(kind, key)
	if live == nil {
		return apierrors.NewNotFound(resourceOf(kind), key.Name)
	}
	if p := options.Preconditions; p != nil {
		if (p.UID != nil && *p.UID != live.GetUID()) || (p.ResourceVersion != nil && *p.ResourceVersion != live.GetResourceVersion()) {
			return apierrors.NewConflict(resourceOf(kind), key.Name, fmt.Errorf("the precondition does not hold: %v", p))
		}
	}
	pod, isPod := live.(*corev1.Pod)
	now := options.GracePeriodSeconds != nil && *options.GracePeriodSeconds == 0
	graceful := isPod && pod.Spec.NodeName != "" && !now
	if !graceful && len(live.GetFinalizers()) == 0 {
		s.put(kind, key, nil)
		return nil
	}
	if live.GetDeletionTimestamp() != nil {
		return nil
	}
	going := copyOf(live)
	at := metav1.NewTime(s.now())
	going.SetDeletionTimestamp(&at)
	going.SetGeneration(going.GetGeneration() + 1)
	s.put(kind, key, going)
	return nil
}

// Evict a pod on the conditions of the options, if the budgets that cover it let it go.
// One that is not ready may always go, as the operator's budgets say.
func (s *Server) Evict(o client.Object, options client.DeleteOptions) error {
	if err := s.MayEvict(o); err != nil {
		return err
	}
	return s.Delete(o, options)
}

// MayEvict says what an eviction would meet.
func (s *Server) MayEvict(o client.Object) error {
	pod, found := s.find("Pod", client.ObjectKeyFromObject(o)).(*corev1.Pod)
	for _, b := range s.all("PodDisruptionBudget") {
		budget := b.(*policyv1.PodDisruptionBudget)
		if !found || !podReady(pod) || pod.DeletionTimestamp != nil || !guards(budget, pod) {
			continue
		}
		healthy := 0
		for _, other := range s.all("Pod") {
			if p := other.(*corev1.Pod); guards(budget, p) && podReady(p) && p.DeletionTimestamp == nil {
				healthy++
			}
		}
		if healthy <= budget.Spec.MinAvailable.IntValue() {
			return apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
		}
	}
	return nil
}

func guards(b *policyv1.PodDisruptionBudget, pod *corev1.Pod) bool {
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	return err == nil && b.Namespace == pod.Namespace && selector.Matches(labelSet(pod.Labels))
}

// Update replaces an object but for its status. With a version it is refused
// when the object has another one.
func (s *Server) Update(o client.Object) error {
	kind, key := kindOf(o), client.ObjectKeyFromObject(o)
	live := s.find(kind, key)
	if live == nil {
		return apierrors.NewNotFound(resourceOf(kind), key.Name)
	}
	if v := o.GetResourceVersion(); v != "" && v != live.GetResourceVersion() {
		return conflict(kind, key)
	}
	return s.replace(live, copyOf(o), "", o)
}

func conflict(kind string, key types.NamespacedName) error {
	return apierrors.NewConflict(resourceOf(kind), key.Name, fmt.Errorf("the object has been modified"))
}

// Patch merges a patch into an object, or into its status, and hands the object
// to the caller.
func (s *Server) Patch(o client.Object, data []byte, subresource string) error {
	kind, key := kindOf(o), client.ObjectKeyFromObject(o)
	live := s.find(kind, key)
	if live == nil {
		return apierrors.NewNotFound(resourceOf(kind), key.Name)
	}
	if v := versionIn(data); v != "" && v != live.GetResourceVersion() {
		return conflict(kind, key)
	}
	merged, err := merge(live, data)
	if err != nil {
		return err
	}
	return s.replace(live, merged, subresource, o)
}

// versionIn a patch; empty for none.
func versionIn(patch []byte) string {
	var locked struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
	}
	if json.Unmarshal(patch, &locked) != nil {
		return ""
	}
	return locked.Metadata.ResourceVersion
}

// annotationIn a patch; empty for none.
func annotationIn(patch []byte, key string) string {
	var annotated struct {
		Metadata struct {
			Annotations map[string]*string `json:"annotations"`
		} `json:"metadata"`
	}
	if json.Unmarshal(patch, &annotated) != nil || annotated.Metadata.Annotations[key] == nil {
		return ""
	}
	return *annotated.Metadata.Annotations[key]
}

func merge(live client.Object, patch []byte) (client.Object, error) {
	was, err := json.Marshal(live)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", live.GetName(), err)
	}
	is, err := jsonpatch.MergePatch(was, patch)
	if err != nil {
		return nil, fmt.Errorf("merging into %s: %w", live.GetName(), err)
	}
	merged := reflect.New(reflect.TypeOf(live).Elem()).Interface().(client.Object)
	if err := json.Unmarshal(is, merged); err != nil {
		return nil, fmt.Errorf("decoding %s: %w", live.GetName(), err)
	}
	return merged, nil
}

// replace stores the next state of an object, with all that a request cannot
// change put back, and hands it to the caller.
func (s *Server) replace(live, next client.Object, subresource string, answer client.Object) error {
	kind, key := kindOf(live), client.ObjectKeyFromObject(live)
	if subresource == "status" {
		status := next
		next = copyOf(live)
		takeStatus(next, status)
	} else {
		takeStatus(next, live)
	}
	next.SetUID(live.GetUID())
	next.SetResourceVersion(live.GetResourceVersion())
	next.SetCreationTimestamp(live.GetCreationTimestamp())
	next.SetDeletionTimestamp(live.GetDeletionTimestamp())
	next.SetGeneration(live.GetGeneration())
	if c, ok := next.(*v1alpha1.EtcdCluster); ok {
		old := live.(*v1alpha1.EtcdCluster)
		if err := check(c, old, subresource); err != nil {
			return err
		}
		if !equality.Semantic.DeepEqual(c.Spec, old.Spec) {
			c.Generation++
		}
	}
	switch {
	case next.GetDeletionTimestamp() != nil && len(next.GetFinalizers()) == 0 && len(live.GetFinalizers()) > 0:
		s.put(kind, key, nil)
	case !equality.Semantic.DeepEqual(live, next):
		s.put(kind, key, next)
	}
	assign(answer, next)
	return nil
}

// check a custom resource by its schema, in the part that has changed.
func check(c, old *v1alpha1.EtcdCluster, subresource string) error {
	if subresource == "status" {
		return validateStatus(c, old)
	}
	return setDefaults(c)
}

// takeStatus puts the status of one object on another.
func takeStatus(to, from client.Object) {
	target := reflect.ValueOf(to).Elem().FieldByName("Status")
	if target.IsValid() {
		target.Set(reflect.ValueOf(copyOf(from)).Elem().FieldByName("Status"))
	}
}

// edit changes a stored object as a controller of Kubernetes or an
// administrator does, past every rule.
func edit[T client.Object](s *Server, o T, change func(T)) {
	live := s.find(kindOf(o), client.ObjectKeyFromObject(o))
	if live == nil {
		return
	}
	next := copyOf(live.(T))
	change(next)
	switch {
	case next.GetDeletionTimestamp() != nil && len(next.GetFinalizers()) == 0 && len(live.GetFinalizers()) > 0:
		s.put(kindOf(o), client.ObjectKeyFromObject(o), nil)
	case !equality.Semantic.DeepEqual(live, client.Object(next)):
		s.put(kindOf(o), client.ObjectKeyFromObject(o), next)
	}
}
