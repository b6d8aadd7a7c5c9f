package sim

import (
	"context"
	"errors"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/quorate/quorate/controllers"
)

// errUnsupported is returned for what no operator here has asked for yet.
var errUnsupported = errors.New("the simulator does not do this")

// get and list answer from a set of objects: the server's, or a cache's.
func get(objects map[string]map[types.NamespacedName]client.Object, key types.NamespacedName, into client.Object) error {
	kind := kindOf(into)
	found := objects[kind][key]
	if found == nil {
		return apierrors.NewNotFound(resourceOf(kind), key.Name)
	}
	assign(into, found)
	return nil
}

func list(objects map[string]map[types.NamespacedName]client.Object, into client.ObjectList, options []client.ListOption) error {
	var o client.ListOptions
	o.ApplyOptions(options)
	var items []runtime.Object
	for _, object := range sorted(objects[kindOf(into)]) {
		if o.Namespace != "" && object.GetNamespace() != o.Namespace {
			continue
		}
		if o.LabelSelector != nil && !o.LabelSelector.Matches(labelSet(object.GetLabels())) {
			continue
		}
		items = append(items, object.DeepCopyObject())
	}
	return meta.SetList(into, items)
}

type labelSet map[string]string

func (l labelSet) Has(key string) bool                       { _, ok := l[key]; return ok }
func (l labelSet) Get(key string) string                     { return l[key] }
func (l labelSet) Lookup(key string) (value string, ok bool) { value, ok = l[key]; return value, ok }

// liveReader reads from the API server, and every read is a call.
type liveReader struct{ op *Operator }

func (r liveReader) Get(_ context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	return r.op.call(Call{Method: "get", Object: kindOf(o) + " " + key.Name}, func() error {
		return get(r.op.w.API.objects, key, o)
	})
}

func (r liveReader) List(_ context.Context, o client.ObjectList, options ...client.ListOption) error {
	return r.op.call(Call{Method: "list", Object: kindOf(o)}, func() error {
		return list(r.op.w.API.objects, o, options)
	})
}

// apiClient is an operator's client: it writes to the API server and reads from
// the caches, but for Secrets, which are not cached.
type apiClient struct{ op *Operator }

var _ client.Client = apiClient{}

func (c apiClient) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	if _, secret := o.(*corev1.Secret); secret {
		return liveReader(c).Get(ctx, key, o, options...)
	}
	if err := get(c.op.cache.objects, key, o); err != nil {
		return err
	}
	return cached(o)
}

func (c apiClient) List(_ context.Context, o client.ObjectList, options ...client.ListOption) error {
	if err := list(c.op.cache.objects, o, options); err != nil {
		return err
	}
	if pods, ok := o.(*corev1.PodList); ok {
		for i := range pods.Items {
			if err := cached(&pods.Items[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// cached leaves out of an object what the operator's caches do not keep of it.
func cached(o client.Object) error {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return nil
	}
	for kind, by := range controllers.Watched() {
		if _, pods := kind.(*corev1.Pod); pods {
			_, err := by.Transform(pod)
			return err
		}
	}
	return nil
}

func (c apiClient) write(method string, o client.Object, w write, do func() error) error {
	object := kindOf(o) + " " + o.GetName()
	w.method, w.object, w.op = method, o, c.op
	return c.op.call(Call{Method: method, Object: object, Changes: true}, func() error {
		c.op.w.check.beforeWrite(w)
		err := do()
		c.op.w.check.afterWrite(err)
		return err
	})
}

func (c apiClient) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	return c.write("create", o, write{}, func() error { return c.op.w.API.Create(o) })
}

func (c apiClient) Delete(_ context.Context, o client.Object, options ...client.DeleteOption) error {
	var d client.DeleteOptions
	d.ApplyOptions(options)
	return c.write("delete", o, write{options: d}, func() error { return c.op.w.API.Delete(o, d) })
}

func (c apiClient) Update(_ context.Context, o client.Object, _ ...client.UpdateOption) error {
	return c.write("update", o, write{}, func() error { return c.op.w.API.Update(o) })
}

func (c apiClient) Patch(_ context.Context, o client.Object, p client.Patch, _ ...client.PatchOption) error {
	return c.patch("patch", "", o, p)
}

func (c apiClient) patch(method, subresource string, o client.Object, p client.Patch) error {
	if p.Type() != types.MergePatchType {
		return errUnsupported
	}
	data, err := p.Data(o)
	if err != nil {
		return err
	}
	return c.write(method, o, write{patch: data}, func() error { return c.op.w.API.Patch(o, data, subresource) })
}

func (c apiClient) Apply(_ context.Context, want runtime.ApplyConfiguration, options ...client.ApplyOption) error {
	var a client.ApplyOptions
	a.ApplyOptions(options)
	kind, name := applyTarget(want)
	return c.op.call(Call{Method: "apply", Object: kind + " " + name, Changes: true}, func() error {
		c.op.writes++
		return c.op.w.API.Apply(want, a.FieldManager)
	})
}

// applyTarget is the kind and the name that a configuration is for.
func applyTarget(want runtime.ApplyConfiguration) (kind, name string) {
	type named interface {
		GetName() *string
		GetKind() *string
	}
	n, ok := want.(named)
	if !ok || n.GetName() == nil || n.GetKind() == nil {
		return "unknown", "unknown"
	}
	return *n.GetKind(), *n.GetName()
}

func (c apiClient) DeleteAllOf(context.Context, client.Object, ...client.DeleteAllOfOption) error {
	return errUnsupported
}

func (c apiClient) Status() client.SubResourceWriter { return statusWriter(c) }
func (c apiClient) SubResource(name string) client.SubResourceClient {
	return subResource{op: c.op, name: name}
}
func (c apiClient) Scheme() *runtime.Scheme     { return scheme.Scheme }
func (c apiClient) RESTMapper() meta.RESTMapper { return nil }

func (c apiClient) GroupVersionKindFor(o runtime.Object) (schema.GroupVersionKind, error) {
	return apiutil.GVKForObject(o, scheme.Scheme)
}

func (c apiClient) IsObjectNamespaced(o runtime.Object) (bool, error) {
	kind := kindOf(o)
	return !strings.HasSuffix(kind, "Node") && kind != "StorageClass", nil
}

// subResource is what an operator asks of one pod beside its own fields: to be evicted.
type subResource struct {
	statusWriter
	op   *Operator
	name string
}

func (s subResource) Get(context.Context, client.Object, client.Object, ...client.SubResourceGetOption) error {
	return errUnsupported
}

func (s subResource) Create(_ context.Context, o, with client.Object, how ...client.SubResourceCreateOption) error {
	eviction, ok := with.(*policyv1.Eviction)
	if !ok || s.name != "eviction" || eviction.DeleteOptions == nil {
		return errUnsupported
	}
	p := eviction.DeleteOptions.Preconditions
	d := client.DeleteOptions{Preconditions: p}
	var as client.SubResourceCreateOptions
	if as.ApplyOptions(how); len(as.DryRun) > 0 {
		return s.op.call(Call{Method: "would evict", Object: kindOf(o) + " " + o.GetName()}, func() error { return s.op.w.API.MayEvict(o) })
	}
	return apiClient{op: s.op}.write("evict", o, write{options: d}, func() error { return s.op.w.API.Evict(o, d) })
}

func (s subResource) Patch(_ context.Context, o client.Object, p client.Patch, _ ...client.SubResourcePatchOption) error {
	if s.name != "resize" {
		return errUnsupported
	}
	return apiClient{op: s.op}.patch("patch resize", s.name, o, p)
}

// statusWriter writes the status subresource.
type statusWriter struct{ op *Operator }

func (s statusWriter) Patch(_ context.Context, o client.Object, p client.Patch, _ ...client.SubResourcePatchOption) error {
	return apiClient(s).patch("patch status", "status", o, p)
}

func (s statusWriter) Create(context.Context, client.Object, client.Object, ...client.SubResourceCreateOption) error {
	return errUnsupported
}

func (s statusWriter) Update(context.Context, client.Object, ...client.SubResourceUpdateOption) error {
	return errUnsupported
}

func (s statusWriter) Apply(context.Context, runtime.ApplyConfiguration, ...client.SubResourceApplyOption) error {
	return errUnsupported
}
