package sim

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/quorate/quorate/api/v1alpha1"
)

// resourceSchema is the custom resource's own: the API server works by the same
// file.
type resourceSchema struct {
	whole  *structuralschema.Structural
	status *cel.Validator
}

var loadSchema = sync.OnceValues(func() (*resourceSchema, error) {
	_, here, _, _ := goruntime.Caller(0)
	path := filepath.Join(filepath.Dir(here), "../../config/crd/bases/etcd.quorate.dev_etcdclusters.yaml")
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the CRD: %w", err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(raw, &crd); err != nil {
		return nil, fmt.Errorf("decoding the CRD: %w", err)
	}
	var internal apiextensions.JSONSchemaProps
	published := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(published, &internal, nil); err != nil {
		return nil, fmt.Errorf("converting the schema: %w", err)
	}
	whole, err := structuralschema.NewStructural(&internal)
	if err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	status := whole.Properties["status"]
	return &resourceSchema{whole: whole, status: cel.NewValidator(&status, false, celconfig.PerCallLimit)}, nil
})

// setDefaults as the API server does when it takes or reads an object.
func setDefaults(c *v1alpha1.EtcdCluster) error {
	schema, err := loadSchema()
	if err != nil {
		return err
	}
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(c)
	if err != nil {
		return fmt.Errorf("encoding the cluster: %w", err)
	}
	defaulting.Default(tree, schema.whole)
	defaulted := &v1alpha1.EtcdCluster{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(tree, defaulted); err != nil {
		return fmt.Errorf("decoding the cluster: %w", err)
	}
	c.Spec, c.Status = defaulted.Spec, defaulted.Status
	return nil
}

// validateStatus applies the rules of the status, of which some compare it with
// the one before.
func validateStatus(c, old *v1alpha1.EtcdCluster) error {
	// Conditions have no rules of their own, and they are most of what changes: a fifth of
	// a run was spent on what had been validated before.
	next, last := c.Status, old.Status
	next.Conditions, last.Conditions = nil, nil
	if equality.Semantic.DeepEqual(next, last) {
		return nil
	}
	schema, err := loadSchema()
	if err != nil {
		return err
	}
	is, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&c.Status)
	if err != nil {
		return fmt.Errorf("encoding status: %w", err)
	}
	was, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&old.Status)
	if err != nil {
		return fmt.Errorf("encoding status: %w", err)
	}
	errs, _ := schema.status.Validate(context.Background(), field.NewPath("status"), nil, is, was, celconfig.RuntimeCELCostBudget)
	if len(errs) > 0 {
		return apierrors.NewInvalid(v1alpha1.GroupVersion.WithKind("EtcdCluster").GroupKind(), c.Name, errs)
	}
	return nil
}
