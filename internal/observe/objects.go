package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/plan"
	"github.com/quorate/quorate/internal/resources"
)

// objects names the fixed objects that are missing or differ in a field that
// the operator owns. The live object's own record of owners is asked, so that
// nothing has to be remembered and nothing is written at rest.
func (o *Observer) objects(ctx context.Context, c *v1alpha1.EtcdCluster, seen *plan.Observed) ([]string, error) {
	var due []string
	for _, object := range resources.Objects(c, len(seen.Members), o.Operator) {
		live := object.Empty
		err := o.reader(c).Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: object.Name}, live)
		if apierrors.IsNotFound(err) {
			due = append(due, object.Kind+" "+object.Name)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s %s: %w", object.Kind, object.Name, err)
		}
		if !metav1.IsControlledBy(live, c) {
			seen.Problems = append(seen.Problems, conflict(object.Kind, c.Namespace, object.Name))
			continue
		}
		same, err := inOrder(object, live)
		if err != nil {
			return nil, fmt.Errorf("comparing %s %s: %w", object.Kind, object.Name, err)
		}
		if !same {
			due = append(due, object.Kind+" "+object.Name)
		}
	}
	return due, nil
}

// inOrder compares what the operator wants with what it owns, as JSON, since
// that is what both came from.
func inOrder(object resources.Object, live client.Object) (bool, error) {
	owned, err := object.Owned(live)
	if err != nil {
		return false, err
	}
	have, err := tree(owned)
	if err != nil {
		return false, err
	}
	want, err := tree(object.Want)
	return reflect.DeepEqual(have, want), err
}

func tree(object any) (any, error) {
	raw, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	var out any
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("decoding: %w", err)
	}
	return out, nil
}
