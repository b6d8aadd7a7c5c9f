package elector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// labeller puts the label on pods that says whether they lead.
type labeller struct {
	client *rest.RESTClient
	pod    Pod
	label  Label
}

func newLabeller(config *rest.Config, pod Pod, label Label) (*labeller, error) {
	client, err := untyped(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of %s for --label: %w", config.Host, err)
	}
	return &labeller{client, pod, label}, nil
}

// duty is to label this pod. Its UID keeps the label from another pod of the name.
func (l *labeller) duty() duty {
	set := func(ctx context.Context, t told) error {
		pod := metav1.ObjectMeta{Name: l.pod.Name, UID: types.UID(l.pod.UID)}
		if t.Role != roleLeader {
			return l.patch(ctx, pod, l.standby())
		}
		// A label that is there already would leave the pod as it was seen by others.
		pod.Annotations = map[string]string{tokenAnnotation: strconv.FormatUint(uint64(t.Token), 10)}
		return l.patch(ctx, pod, l.label.Leader)
	}
	return duty{name: "--label", begin: set, end: set, settle: set, keep: true}
}

// tokenAnnotation of a pod is the token of the last term in which it was labelled.
const tokenAnnotation = "leader.quorate.dev/token"

// standby is the label's value on a pod that does not lead. A merge patch takes a label
// off with null.
func (l *labeller) standby() any {
	if l.label.Standby == "" {
		return nil
	}
	return l.label.Standby
}

// others is the duty to take the leader's label off those that bear it still: they were
// killed, or cannot reach the API server.
func (l *labeller) others() duty {
	return duty{name: "--label-others", begin: func(ctx context.Context, t told) error {
		pods, err := l.labelled(ctx)
		if err != nil {
			return err
		}
		var trouble []error
		for _, pod := range pods {
			if pod.Name == l.pod.Name {
				continue
			}
			// Only as it was seen while this pod led: should it be a leader of the past that
			// wakes up here, the one that it would rob has been labelled since.
			if err := t.check(); err != nil {
				return err
			}
			if err := l.patch(ctx, metav1.ObjectMeta{Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion}, l.standby()); err != nil && !apierrors.IsNotFound(err) {
				trouble = append(trouble, err)
			}
		}
		return errors.Join(trouble...)
	}}
}

// labelled are the pods of the namespace with the leader's label.
func (l *labeller) labelled(ctx context.Context) ([]metav1.PartialObjectMetadata, error) {
	ctx, cancel := context.WithTimeout(ctx, oneTry)
	defer cancel()
	selector := l.label.Key + "=" + l.label.Leader
	raw, err := l.client.Get().Namespace(l.pod.Namespace).Resource("pods").Param("labelSelector", selector).
		SetHeader("Accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").MaxRetries(0).Do(ctx).Raw()
	if err != nil {
		return nil, fmt.Errorf("listing the pods with the label %s in %s: %w", selector, l.pod.Namespace, err)
	}
	var list metav1.PartialObjectMetadataList
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("listing the pods with the label %s in %s: %w", selector, l.pod.Namespace, err)
	}
	return list.Items, nil
}

// patch the label of a pod, and its annotations, if it still has the UID and the
// resourceVersion; empty ones do not matter.
func (l *labeller) patch(ctx context.Context, pod metav1.ObjectMeta, value any) error {
	meta := map[string]any{"labels": map[string]any{l.label.Key: value}}
	if pod.UID != "" {
		meta["uid"] = pod.UID
	}
	if pod.ResourceVersion != "" {
		meta["resourceVersion"] = pod.ResourceVersion
	}
	if pod.Annotations != nil {
		meta["annotations"] = pod.Annotations
	}
	patch, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		return fmt.Errorf("labelling the pod: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, oneTry)
	defer cancel()
	err = l.client.Patch(types.MergePatchType).Namespace(l.pod.Namespace).Resource("pods").Name(pod.Name).MaxRetries(0).Body(patch).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("patching the label %s of the pod %s/%s: %w", l.label.Key, l.pod.Namespace, pod.Name, err)
	}
	return nil
}
