package elector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

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
		value := l.standby()
		if t.Role == roleLeader {
			value = l.label.Leader
		}
		return l.patch(ctx, metav1.ObjectMeta{Name: l.pod.Name, UID: types.UID(l.pod.UID)}, value)
	}
	return duty{name: "--label", begin: set, end: set, settle: set}
}

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
	return duty{name: "--label-others", begin: func(ctx context.Context, _ told) error {
		pods, err := l.labelled(ctx)
		if err != nil {
			return err
		}
		var trouble []error
		for _, pod := range pods {
			if pod.Name == l.pod.Name {
				continue
			}
			// Only as it was seen: should this pod be a leader of the past that wakes up
			// here, the one that it would rob has been labelled since.
			if err := l.patch(ctx, pod.ObjectMeta, l.standby()); err != nil && !apierrors.IsNotFound(err) {
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

// patch the label of a pod, if it still has the UID and the resourceVersion; empty ones
// do not matter.
func (l *labeller) patch(ctx context.Context, pod metav1.ObjectMeta, value any) error {
	meta := map[string]any{"labels": map[string]any{l.label.Key: value}}
	if pod.UID != "" {
		meta["uid"] = pod.UID
	}
	if pod.ResourceVersion != "" {
		meta["resourceVersion"] = pod.ResourceVersion
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
