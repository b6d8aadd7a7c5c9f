package sim

import (
	"encoding/json"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// fields does server-side apply as the API server does it, and remembers the
// results: the same few objects are applied in thousands of runs.
var fields = struct {
	sync.Mutex
	converter managedfields.TypeConverter
	results   map[string]client.Object
}{results: map[string]client.Object{}}

// Apply is server-side apply.
func (s *Server) Apply(want runtime.ApplyConfiguration, owner string) error {
	raw, err := json.Marshal(want)
	if err != nil {
		return fmt.Errorf("encoding: %w", err)
	}
	wanted := &unstructured.Unstructured{}
	if err := json.Unmarshal(raw, wanted); err != nil {
		return fmt.Errorf("decoding: %w", err)
	}
	key := client.ObjectKeyFromObject(wanted)
	live := s.find(wanted.GetKind(), key)
	next, err := applied(live, wanted, raw, owner)
	if err != nil {
		return err
	}
	if live == nil {
		return s.Create(next)
	}
	next.SetResourceVersion("")
	return s.Update(next)
}

func applied(live client.Object, wanted *unstructured.Unstructured, raw []byte, owner string) (client.Object, error) {
	was, err := json.Marshal(live)
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	memo := string(was) + owner + string(raw)
	fields.Lock()
	defer fields.Unlock()
	if known := fields.results[memo]; known != nil {
		return copyOf(known), nil
	}
	if fields.converter == nil {
		fields.converter = applyconfigurations.NewTypeConverter(clientgoscheme.Scheme)
	}
	kind := wanted.GroupVersionKind()
	scheme := clientgoscheme.Scheme
	manager, err := managedfields.NewDefaultFieldManager(fields.converter, scheme, scheme, scheme, kind, kind.GroupVersion(), "", nil)
	if err != nil {
		return nil, fmt.Errorf("making a field manager: %w", err)
	}
	var base runtime.Object
	if live != nil {
		base = live.DeepCopyObject()
	} else if base, err = scheme.New(kind); err != nil {
		return nil, fmt.Errorf("making a %s: %w", kind.Kind, err)
	}
	base.GetObjectKind().SetGroupVersionKind(kind)
	result, err := manager.Apply(base, wanted, owner, true)
	if err != nil {
		return nil, fmt.Errorf("applying %s %s: %w", kind.Kind, wanted.GetName(), err)
	}
	next := result.(client.Object)
	fields.results[memo] = copyOf(next)
	return next, nil
}
