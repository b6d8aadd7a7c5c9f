package resources

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/quorate/quorate/api/v1alpha1"
)

// Where a pod that reads or writes backups finds what it needs.
const (
	credentialsDir = "/quorate/credentials"
	storeCADir     = "/quorate/store-ca"
	identityDir    = "/quorate/identity"
	recipientsDir  = "/quorate/recipients"
	storeMount     = "/store"

	// KeyStoreCA is the key of a Secret with a store's authority, and KeyIdentity that
	// of one with a private key of age.
	KeyStoreCA  = "ca.crt"
	KeyIdentity = "identity"
)

// mounted are the flags, volumes and mounts that belong together.
type mounted struct {
	flags   []string
	volumes []corev1.Volume
	mounts  []corev1.VolumeMount
}

func (m *mounted) flag(flags ...string) { m.flags = append(m.flags, flags...) }

// secret mounts a Secret that the user names. It is never read by the operator, nor
// copied. It is only the pod that does not start while the Secret is missing.
func (m *mounted) secret(volume, dir string, ref *v1alpha1.SecretReference) {
	m.mount(volume, dir, corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
		SecretName: ref.Name, DefaultMode: new(int32(0o440)),
	}})
}

func (m *mounted) mount(volume, dir string, source corev1.VolumeSource) {
	m.volumes = append(m.volumes, corev1.Volume{Name: volume, VolumeSource: source})
	writes := source.EmptyDir != nil || source.PersistentVolumeClaim != nil
	m.mounts = append(m.mounts, corev1.VolumeMount{Name: volume, MountPath: dir, ReadOnly: !writes})
}

// StoreURL is the store as backups name it, without what is below it.
func StoreURL(s v1alpha1.BackupStore) string {
	switch {
	case s.S3 != nil:
		return "s3://" + s.S3.Bucket
	case s.GCS != nil:
		return "gs://" + s.GCS.Bucket
	case s.Azure != nil:
		return "azblob://" + s.Azure.Container
	case s.PersistentVolumeClaim != nil:
		return "file://" + storeMount
	default:
		return ""
	}
}

// StorePrefix is what the names of all objects begin with.
func StorePrefix(s v1alpha1.BackupStore) string {
	switch {
	case s.S3 != nil:
		return s.S3.Prefix
	case s.GCS != nil:
		return s.GCS.Prefix
	case s.Azure != nil:
		return s.Azure.Prefix
	case s.PersistentVolumeClaim != nil:
		return s.PersistentVolumeClaim.Path
	default:
		return ""
	}
}

// ObjectURL is where an object of this name lies, for people.
func ObjectURL(s v1alpha1.BackupStore, key string) string {
	if s.PersistentVolumeClaim != nil {
		return "pvc://" + s.PersistentVolumeClaim.ClaimName + "/" + key
	}
	return StoreURL(s) + "/" + key
}

// store is what a program needs to reach a store.
func store(s v1alpha1.BackupStore) mounted {
	var m mounted
	m.flag("--store=" + StoreURL(s))
	if prefix := strings.Trim(StorePrefix(s), "/"); prefix != "" {
		m.flag("--prefix=" + prefix)
	}
	credentials := func(ref *v1alpha1.SecretReference) {
		if ref != nil {
			m.flag("--credentials=" + credentialsDir)
			m.secret("credentials", credentialsDir, ref)
		}
	}
	switch {
	case s.S3 != nil:
		credentials(s.S3.CredentialsSecretRef)
		m.s3(s.S3)
	case s.GCS != nil:
		credentials(s.GCS.CredentialsSecretRef)
	case s.Azure != nil:
		m.flag("--azure-account=" + s.Azure.Account)
		credentials(s.Azure.CredentialsSecretRef)
	case s.PersistentVolumeClaim != nil:
		m.mount("store", storeMount, corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{
			ClaimName: s.PersistentVolumeClaim.ClaimName,
		}})
	}
	return m
}

// labelAzureIdentity has Azure's webhook give a pod the identity that its ServiceAccount names.
const labelAzureIdentity = "azure.workload.identity/use"

// identified are the labels of a pod that reads from the store, or writes to it: as itself, if
// no Secret is named.
func identified(labels map[string]string, s v1alpha1.BackupStore) map[string]string {
	if s.Azure == nil || s.Azure.CredentialsSecretRef != nil {
		return labels
	}
	labels = maps.Clone(labels)
	labels[labelAzureIdentity] = "true"
	return labels
}

func (m *mounted) s3(s *v1alpha1.S3Store) {
	if s.Endpoint != "" {
		m.flag("--s3-endpoint=" + strings.TrimSuffix(s.Endpoint, "/"))
	}
	if s.Region != "" {
		m.flag("--s3-region=" + s.Region)
	}
	if s.ForcePathStyle != nil && *s.ForcePathStyle || s.ForcePathStyle == nil && s.Endpoint != "" {
		m.flag("--s3-path-style")
	}
	if s.CASecretRef != nil {
		m.flag("--store-ca=" + storeCADir + "/" + KeyStoreCA)
		m.secret("store-ca", storeCADir, s.CASecretRef)
	}
}

// recipients are read as a file, which the kubelet writes from an annotation.
func (m *mounted) recipients(e *v1alpha1.BackupEncryption) {
	if e == nil {
		return
	}
	m.flag("--age-recipients=" + recipientsDir + "/recipients")
	m.mount("recipients", recipientsDir, corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{
		Items: []corev1.DownwardAPIVolumeFile{{
			Path:     "recipients",
			FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.annotations['" + v1alpha1.AnnotationRecipients + "']"},
		}},
	}})
}

func (m *mounted) identity(e *v1alpha1.BackupEncryption) {
	if e == nil || e.IdentitySecretRef == nil {
		return
	}
	m.flag("--age-identities=" + identityDir + "/" + KeyIdentity)
	m.secret("identity", identityDir, e.IdentitySecretRef)
}

// ClaimOf is the PersistentVolumeClaim that is a store; empty for any other.
func ClaimOf(s v1alpha1.BackupStore) string {
	if s.PersistentVolumeClaim == nil {
		return ""
	}
	return s.PersistentVolumeClaim.ClaimName
}

// SecretsOf are the Secrets that a store and an encryption name.
func SecretsOf(s v1alpha1.BackupStore, e *v1alpha1.BackupEncryption) []string {
	var refs []*v1alpha1.SecretReference
	switch {
	case s.S3 != nil:
		refs = append(refs, s.S3.CredentialsSecretRef, s.S3.CASecretRef)
	case s.GCS != nil:
		refs = append(refs, s.GCS.CredentialsSecretRef)
	case s.Azure != nil:
		refs = append(refs, s.Azure.CredentialsSecretRef)
	}
	if e != nil {
		refs = append(refs, e.IdentitySecretRef)
	}
	var names []string
	for _, ref := range refs {
		if ref != nil {
			names = append(names, ref.Name)
		}
	}
	return names
}
