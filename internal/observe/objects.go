package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// objects names the fixed objects that are missing or are not as they should
// be. The live objects are asked, so that nothing has to be remembered and
// nothing is written at rest; what was in order is compared again only when
// either side has changed, for comparing is most of a look at a cluster at rest.
func (o *Observer) objects(ctx context.Context, c *v1alpha1.EtcdCluster, m *memory, seen *plan.Observed) ([]string, error) {
	var due []string
	for _, object := range m.wants(c, seen.BudgetVoters(), o.Operator) {
		live := object.Empty()
		err := o.reader(c, m).Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: object.Name}, live, asCached)
		if apierrors.IsNotFound(err) {
			due = append(due, object.Kind+" "+object.Name)
			m.drifted(seen, object)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s %s: %w", object.Kind, object.Name, err)
		}
		if !metav1.IsControlledBy(live, c) {
			seen.Problems = append(seen.Problems, conflict(c, object.Kind, live))
			continue
		}
		same, err := m.compared(object, live)
		if err != nil {
			return nil, fmt.Errorf("comparing %s %s: %w", object.Kind, object.Name, err)
		}
		if !same {
			due = append(due, object.Kind+" "+object.Name)
			m.drifted(seen, object)
		}
	}
	return due, nil
}

// wanted are the fixed objects of one version of a cluster, with a budget for so many voters.
type wanted struct {
	version string
	voters  int
	objects []resources.Object
}

// wants are the fixed objects, made anew when the cluster has changed: at rest, making them
// and comparing them with those of the look before was a tenth of a look.
func (m *memory) wants(c *v1alpha1.EtcdCluster, voters int, operator resources.OperatorPeer) []resources.Object {
	if w := m.wanted; c.ResourceVersion == "" || w.version != c.ResourceVersion || w.voters != voters {
		m.wanted = wanted{version: c.ResourceVersion, voters: voters, objects: resources.Objects(c, voters, operator)}
	}
	return m.wanted.objects
}

// drifted notes an object that was as it is wanted, and that somebody else has
// changed or deleted since. One that is wanted otherwise than before has not drifted.
func (m *memory) drifted(seen *plan.Observed, object resources.Object) {
	name := object.Kind + " " + object.Name
	if was, known := m.agreed[name]; known && reflect.DeepEqual(was.want, object.Want) {
		seen.Drifted = append(seen.Drifted, name)
	}
}

// agreement is a version of a live object that had all that was wanted.
type agreement struct {
	uid     types.UID
	version string
	want    runtime.ApplyConfiguration
}

// compared is inOrder, remembered.
func (m *memory) compared(object resources.Object, live client.Object) (bool, error) {
	key := object.Kind + " " + object.Name
	was, known := m.agreed[key]
	if known && !reflect.DeepEqual(was.want, object.Want) {
		// What was agreed is wanted no more. Were it wanted again before anybody has
		// looked at it in between, the operator's own write would be taken for drift.
		delete(m.agreed, key)
		known = false
	}
	if known && was.uid == live.GetUID() && was.version == live.GetResourceVersion() {
		// The next look finds the very object that it wants, and compares nothing: after
		// every change of a cluster's status that was a twentieth of each look that followed.
		was.want = object.Want
		m.agreed[key] = was
		return true, nil
	}
	same, err := inOrder(object, live)
	if same && err == nil {
		if m.agreed == nil {
			m.agreed = map[string]agreement{}
		}
		m.agreed[key] = agreement{uid: live.GetUID(), version: live.GetResourceVersion(), want: object.Want}
	}
	return same, err
}

// inOrder says that the live object has every field that the operator wants,
// with its value. Nothing else of the metadata is compared, since others have
// business there; in the spec each field that is wanted must be exactly as
// wanted, so that a peer or a selector that somebody added is seen.
//
// The object's own record of field owners would tell the same, but reading it
// takes the schema of the whole API: 20 MiB for a question that JSON answers.
func inOrder(object resources.Object, live client.Object) (bool, error) {
	have, err := tree(live)
	if err != nil {
		return false, err
	}
	want, err := tree(object.Want)
	if err != nil {
		return false, err
	}
	for field, value := range want {
		switch field {
		case "kind", "apiVersion":
		case "metadata":
			if !covers(have[field], value) {
				return false, nil
			}
		default:
			if !equalWhereWanted(have[field], value) {
				return false, nil
			}
		}
	}
	return true, nil
}

// covers says that have holds all of want: every key of a map, and for every
// element of a list one that covers it.
func covers(have, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		have, ok := have.(map[string]any)
		for key, value := range want {
			ok = ok && covers(have[key], value)
		}
		return ok
	case []any:
		have, ok := have.([]any)
		for _, value := range want {
			ok = ok && slices.ContainsFunc(have, func(h any) bool { return covers(h, value) })
		}
		return ok
	default:
		return reflect.DeepEqual(have, want)
	}
}

// equalWhereWanted compares the fields of a spec one by one. A Service's ports
// are a list of keyed entries, to which others may add their own; every other
// field is wanted or not wanted as a whole.
func equalWhereWanted(have, want any) bool {
	wanted, ok := want.(map[string]any)
	if !ok {
		return reflect.DeepEqual(have, want)
	}
	live, ok := have.(map[string]any)
	for field, value := range wanted {
		if field == "ports" {
			ok = ok && covers(live[field], value)
			continue
		}
		ok = ok && reflect.DeepEqual(live[field], value)
	}
	return ok
}

func tree(object any) (map[string]any, error) {
	raw, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("decoding: %w", err)
	}
	return out, nil
}
