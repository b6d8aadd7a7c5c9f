package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EtcdClusterSpec is what the user wants. Every field has a default that
// works: an empty spec is a TLS-protected cluster of three members.
// +kubebuilder:validation:XValidation:rule=`!has(self.size) || !has(oldSelf.size) || !has(self.version) || !has(oldSelf.version) || self.size == oldSelf.size || self.version == oldSelf.version`,message=`size (… to …) and version (… to …) change in one update — each moves one member at a time, and doing both at once would leave no way to tell which of them went wrong — change one, wait for Reconciling=False, then change the other`,messageExpression=`'size (%d to %d) and version (%s to %s) change in one update — each moves one member at a time, and doing both at once would leave no way to tell which of them went wrong — change one, wait for Reconciling=False, then change the other'.format([oldSelf.size, self.size, oldSelf.version, self.version])`,fieldPath=`.version`
// +kubebuilder:validation:XValidation:rule=`(oldSelf.?storage.size == self.?storage.size && oldSelf.?etcd.quotaBackendBytes == self.?etcd.quotaBackendBytes) || !(string(self.storage.size).matches('^[0-9.]{1,16}[EGKMPTkm]?i?$') && isQuantity(string(self.storage.size))) || !(string(self.etcd.quotaBackendBytes).matches('^[0-9.]{1,16}[EGKMPTkm]?i?$') && isQuantity(string(self.etcd.quotaBackendBytes))) || quantity(string(self.storage.size)).compareTo(quantity(string(self.etcd.quotaBackendBytes)).add(quantity(string(self.etcd.quotaBackendBytes)))) >= 0`,messageExpression=`string(self.storage.size) + ' is less than twice etcd.quotaBackendBytes (' + string(self.etcd.quotaBackendBytes) + ') — the volume holds the database, the log, and a second copy of the database while it is defragmented or received from the leader — make the volume larger or the quota smaller'`,fieldPath=`.storage.size`,optionalOldSelf=true
// +kubebuilder:validation:XValidation:rule=`!has(self.storage) || !has(self.storage.medium) || self.storage.medium != 'Memory' || !(string(self.storage.size).matches('^[0-9.]{1,16}[EGKMPTkm]?i?$') && isQuantity(string(self.storage.size))) || (oldSelf.?storage.medium == self.?storage.medium && oldSelf.?storage.size == self.?storage.size && oldSelf.?podTemplate.resources.limits[?'memory'].hasValue() == self.?podTemplate.resources.limits[?'memory'].hasValue() && (!self.?podTemplate.resources.limits[?'memory'].hasValue() || oldSelf.value().podTemplate.resources.limits['memory'] == self.podTemplate.resources.limits['memory'])) || (has(self.podTemplate) && has(self.podTemplate.resources) && has(self.podTemplate.resources.limits) && 'memory' in self.podTemplate.resources.limits && (string(self.podTemplate.resources.limits['memory']).matches('^[0-9.]{1,16}[EGKMPTkm]?i?$') && isQuantity(string(self.podTemplate.resources.limits['memory']))) && quantity(string(self.podTemplate.resources.limits['memory'])).compareTo(quantity(string(self.storage.size)).add(quantity('256Mi'))) >= 0)`,message=`… is too little for memory-backed storage of … — the data counts as memory of the pod, which is killed at its limit — set podTemplate.resources.limits.memory to at least storage.size + 256Mi`,messageExpression=`'%s is too little for memory-backed storage of %s — the data counts as memory of the pod, which is killed at its limit — set podTemplate.resources.limits.memory to at least storage.size + 256Mi'.format([self.?podTemplate.resources.limits[?'memory'].orValue('no limit'), self.storage.size])`,fieldPath=`.podTemplate.resources.limits.memory`,optionalOldSelf=true
// +kubebuilder:validation:XValidation:rule=`!has(self.version) || !has(oldSelf.version) || !self.version.matches('^3[.][567][.](0|[1-9][0-9]{0,2})$') || !oldSelf.version.matches('^3[.][567][.](0|[1-9][0-9]{0,2})$') || int(self.version.split('.')[1]) <= int(oldSelf.version.split('.')[1]) + 1 || (self.?update.through.orValue(false) && size(self.?image.digest.orValue("")) == 0)`,message=`version skips a minor release — etcd migrates its data one minor release at a time — upgrade to the release in between first, or set update.through to true`,messageExpression=`'%s skips a minor release after %s — etcd migrates its data one minor release at a time — upgrade to 3.%d.x first, or set update.through to true'.format([self.version, oldSelf.version, int(oldSelf.version.split('.')[1]) + 1])`,fieldPath=`.version`
// +kubebuilder:validation:XValidation:rule=`!oldSelf.hasValue() || (has(self.restoreFrom) == has(oldSelf.value().restoreFrom) && self.?restoreFrom.backupName == oldSelf.value().?restoreFrom.backupName && self.?restoreFrom.clusterUID == oldSelf.value().?restoreFrom.clusterUID && self.?restoreFrom.backupID == oldSelf.value().?restoreFrom.backupID && self.?restoreFrom.archiveName == oldSelf.value().?restoreFrom.archiveName && self.?restoreFrom.toRevision == oldSelf.value().?restoreFrom.toRevision && self.?restoreFrom.toTime == oldSelf.value().?restoreFrom.toTime)`,message=`restoreFrom can only be set when the cluster is created, and names the same backup for ever — a running cluster would be carried back in time under its clients — create another cluster with it`,fieldPath=`.restoreFrom`,optionalOldSelf=true
// +kubebuilder:validation:XValidation:rule=`!has(self.restoreFrom) || self.?storage.medium.orValue('Disk') != 'Memory'`,message=`restoreFrom and storage.medium Memory do not go together — a backup is restored onto volumes, before etcd runs — use the medium Disk`,fieldPath=`.restoreFrom`
// +kubebuilder:validation:XValidation:rule=`!oldSelf.hasValue() || self.?adopt.clusterUID == oldSelf.value().?adopt.clusterUID`,message=`adopt can only be set when the cluster is created, and stays — the cluster would lose the volumes that it has, or take others for its own — create the cluster anew with it`,fieldPath=`.adopt`,optionalOldSelf=true
// +kubebuilder:validation:XValidation:rule=`oldSelf.hasValue() || !has(self.recovery)`,message=`recovery cannot be set when the cluster is created — no quorum is lost yet, and the word would lie in wait for the first loss — leave it out; a new cluster begins with a backup by restoreFrom`,fieldPath=`.recovery`,optionalOldSelf=true
// +kubebuilder:validation:XValidation:rule=`!has(self.recovery) || self.?storage.medium.orValue('Disk') != 'Memory'`,message=`recovery and storage.medium Memory do not go together — a backup is restored onto volumes, before etcd runs — set storage.medium to Disk in the same edit`,fieldPath=`.recovery`
// +kubebuilder:validation:XValidation:rule=`!has(self.adopt) || (!has(self.restoreFrom) && self.?storage.medium.orValue('Disk') != 'Memory')`,message=`adopt goes with neither restoreFrom nor storage.medium Memory — the cluster begins with the data on the volumes of a deleted one — leave them out`,fieldPath=`.adopt`
type EtcdClusterSpec struct {
	// Size is the number of voting members: 1, 3, 5 or 7. An even size costs a
	// member and tolerates no more failures than the odd size below it.
	// +kubebuilder:validation:XValidation:rule=`self in [1, 3, 5, 7]`,messageExpression=`self < 1 ? '%d members are not possible — a cluster without members serves nobody, and it cannot be put to sleep — use 1, 3, 5 or 7, or delete the EtcdCluster: its volumes are kept unless storage.whenDeleted is Delete'.format([self]) : '%d members are not possible — an even number tolerates no more failures than the odd number below it, and beyond 7 every write waits for too many — use 1, 3, 5 or 7'.format([self])`
	// +kubebuilder:default=3
	// +optional
	Size int32 `json:"size,omitempty"`

	// Version of etcd, without a leading v, for example "3.6.16". It is also
	// the image's tag, with a v in front, unless image.digest is set.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self.matches('^3[.][567][.](0|[1-9][0-9]{0,2})$')`,message=`"…" is not a supported version of etcd — it is the tag of the image and decides how data is migrated, so it has to be exact — use 3.5.x (from 3.5.26), 3.6.x or 3.7.x, with no v in front and nothing behind`,messageExpression=`'"' + self + '" is not a supported version of etcd — it is the tag of the image and decides how data is migrated, so it has to be exact — use 3.5.x (from 3.5.26), 3.6.x or 3.7.x, with no v in front and nothing behind'`
	// +kubebuilder:validation:XValidation:rule=`!self.matches('^3[.]5[.](0|[1-9]|1[0-9]|2[0-5])$')`,message=`… is too old — before 3.5.26 etcd can bring removed members back to life in the upgrade to 3.6 — use 3.5.26 or later`,messageExpression=`self + ' is too old — before 3.5.26 etcd can bring removed members back to life in the upgrade to 3.6 — use 3.5.26 or later'`
	// +kubebuilder:default="3.6.16"
	// +optional
	Version string `json:"version,omitempty"`

	// Image says where the etcd image comes from.
	// +kubebuilder:default={}
	// +optional
	Image ImageSpec `json:"image,omitempty,omitzero"`

	// Storage describes the volume of each member.
	// +kubebuilder:default={}
	// +optional
	Storage StorageSpec `json:"storage,omitempty,omitzero"`

	// TLS protects the client and the peer port.
	// +kubebuilder:default={}
	// +optional
	TLS TLSSpec `json:"tls,omitempty,omitzero"`

	// Etcd holds etcd's own options.
	// +kubebuilder:default={}
	// +optional
	Etcd EtcdOptions `json:"etcd,omitempty,omitzero"`

	// PodTemplate adds to the members' pods. It holds only fields that keep a
	// pod within the restricted Pod Security profile.
	// +optional
	PodTemplate PodTemplate `json:"podTemplate,omitempty,omitzero"`

	// NetworkPolicy opens the members' ports to more than the default.
	// +optional
	NetworkPolicy NetworkPolicySpec `json:"networkPolicy,omitempty,omitzero"`

	// RestoreFrom is the backup that a new cluster begins with; it begins empty if unset.
	// It can only be set when the cluster is created. Only the way to the backup (its store
	// and credentials) may be corrected later, until the cluster is founded.
	// +optional
	RestoreFrom *RestoreSource `json:"restoreFrom,omitempty"`

	// Adopt brings a deleted cluster back from the volumes that it has left behind. Name,
	// namespace, TLS and size must be those of the deleted one. It can only be set when the
	// cluster is created, and stays.
	// +optional
	Adopt *AdoptSpec `json:"adopt,omitempty"`

	// Recovery is your word that a cluster which has lost its quorum for good goes on with a
	// backup, and what was acknowledged since is lost; or with a copy of a survivor's volume,
	// and what only the others had acknowledged is lost. It holds for one incarnation, and is void
	// once the cluster has served while it stood here. Nothing of the kind happens without it.
	// +optional
	Recovery *RecoverySpec `json:"recovery,omitempty"`

	// Failover says when a member is given up and replaced.
	// +kubebuilder:default={}
	// +optional
	Failover FailoverSpec `json:"failover,omitempty,omitzero"`

	// Update says how far a change of version may go by itself.
	// +optional
	Update UpdateSpec `json:"update,omitempty,omitzero"`

	// Maintenance says when members may be made to stand still for their upkeep.
	// +optional
	Maintenance MaintenanceSpec `json:"maintenance,omitempty,omitzero"`

	// Paused stops every change that the operator would make to this cluster
	// and its objects. Status is still refreshed.
	// +optional
	Paused bool `json:"paused,omitempty"`
}

// UpdateSpec says how far a change of version may go by itself.
type UpdateSpec struct {
	// Through lets version be several minor releases ahead: the members pass through the
	// ones in between, each in its newest release that this operator knows, one after the
	// other. It cannot be used with image.digest, which names one image.
	// +optional
	Through bool `json:"through,omitempty"`

	// DowngradeTo is the minor release, for example "3.6", to which version may be set
	// although the members run the next one. The members' storage is rewritten for it by
	// etcd's own procedure before any of them is restarted.
	// +kubebuilder:validation:MaxLength=8
	// +kubebuilder:validation:XValidation:rule=`size(self) == 0 || self.matches('^3[.][56]$')`,message=`"…" is not a minor release that a cluster can be downgraded to — etcd goes back by one minor release at a time, from 3.7 or 3.6 — use 3.6 or 3.5`,messageExpression=`'"' + self + '" is not a minor release that a cluster can be downgraded to — etcd goes back by one minor release at a time, from 3.7 or 3.6 — use 3.6 or 3.5'`
	// +optional
	DowngradeTo string `json:"downgradeTo,omitempty"`
}

// ImageSpec names the etcd image.
type ImageSpec struct {
	// Repository without tag or digest.
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule=`!self.matches('(@.*|:[^/]*)$')`,message=`"…" carries a tag or a digest — the tag follows spec.version, and two places for it would contradict each other — name only the repository, and use version or image.digest`,messageExpression=`'"' + self + '" carries a tag or a digest — the tag follows spec.version, and two places for it would contradict each other — name only the repository, and use version or image.digest'`
	// +kubebuilder:validation:XValidation:rule=`self.matches('(@.*|:[^/]*)$') || self.matches('^(([A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?|[[][0-9a-fA-F:]+[]])(:[0-9]{1,5})?/)?[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)*$')`,message=`"…" is not an image repository — nothing could be pulled from it — use a form such as quay.io/coreos/etcd or localhost:5000/etcd`,messageExpression=`'"' + self + '" is not an image repository — nothing could be pulled from it — use a form such as quay.io/coreos/etcd or localhost:5000/etcd'`
	// +kubebuilder:default="quay.io/coreos/etcd"
	// +optional
	Repository string `json:"repository,omitempty"`

	// Digest pins the image (sha256:<64 hex digits>). The image must be of
	// spec.version.
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule=`size(self) == 0 || self.matches('^sha256:[0-9a-f]{64}$')`,message=`"…" is not a digest — an image that is pinned wrongly is never pulled — use sha256: and 64 lower-case hex digits`,messageExpression=`'"' + self + '" is not a digest — an image that is pinned wrongly is never pulled — use sha256: and 64 lower-case hex digits'`
	// +optional
	Digest string `json:"digest,omitempty"`

	// PullPolicy of the etcd image.
	// +kubebuilder:default=IfNotPresent
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	// +optional
	PullPolicy corev1.PullPolicy `json:"pullPolicy,omitempty"`
}

// StorageMedium is where a member's data lives.
// +kubebuilder:validation:MaxLength=16
// +kubebuilder:validation:Enum=Disk;Memory
type StorageMedium string

const (
	// MediumDisk keeps each member's data on a PersistentVolumeClaim.
	MediumDisk StorageMedium = "Disk"
	// MediumMemory keeps it in memory: a lost pod is a lost member.
	MediumMemory StorageMedium = "Memory"
)

// WhenDeleted says what becomes of the volumes when the cluster is deleted.
// +kubebuilder:validation:Enum=Retain;Delete
type WhenDeleted string

const (
	// WhenDeletedRetain keeps the volumes.
	WhenDeletedRetain WhenDeleted = "Retain"
	// WhenDeletedDelete deletes the volumes with the cluster.
	WhenDeletedDelete WhenDeleted = "Delete"
)

// StorageSpec describes the volume of each member.
type StorageSpec struct {
	// Size of each member's volume. At least twice etcd.quotaBackendBytes.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`(string(self).matches('^[0-9.]{1,16}[EGKMPTkm]?i?$') && isQuantity(string(self))) && quantity(string(self)).isGreaterThan(quantity('0'))`,message=`"…" is not a size — each member needs a volume of at least twice etcd.quotaBackendBytes — use a positive quantity such as 8Gi`,messageExpression=`'"' + string(self) + '" is not a size — each member needs a volume of at least twice etcd.quotaBackendBytes — use a positive quantity such as 8Gi'`
	// +kubebuilder:validation:XValidation:rule=`!(string(self).matches('^[0-9.]{1,16}[EGKMPTkm]?i?$') && isQuantity(string(self))) || !(string(oldSelf).matches('^[0-9.]{1,16}[EGKMPTkm]?i?$') && isQuantity(string(oldSelf))) || quantity(string(self)).compareTo(quantity(string(oldSelf))) >= 0`,messageExpression=`string(self) + ' is less than ' + string(oldSelf) + ' — a volume cannot shrink — keep ' + string(oldSelf) + ' or more'`
	// +kubebuilder:default="8Gi"
	// +optional
	Size resource.Quantity `json:"size,omitempty,omitzero"`

	// StorageClassName of the volumes; the cluster's default class if unset.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`size(self) == 0 || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,message=`"…" is not the name of a StorageClass — no volume could be made — use a name from kubectl get storageclass, or leave the field out for the default class`,messageExpression=`'"' + self + '" is not the name of a StorageClass — no volume could be made — use a name from kubectl get storageclass, or leave the field out for the default class'`
	// +optional
	StorageClassName *string `json:"storageClassName,omitempty"`

	// Medium of the data: Disk or Memory. Where it changes, members on the new medium take
	// the place of the others, one at a time. In memory a member that loses its pod loses its
	// data, and a majority that does so at once loses the cluster's.
	// +kubebuilder:default=Disk
	// +optional
	Medium StorageMedium `json:"medium,omitempty"`

	// WhenDeleted keeps (Retain) or deletes (Delete) the volumes when the
	// cluster is deleted. The deletion of a whole namespace takes the claims
	// in any case; then only the class's reclaim policy protects the data.
	// +kubebuilder:default=Retain
	// +optional
	WhenDeleted WhenDeleted `json:"whenDeleted,omitempty"`

	// QuarantineFor is how long the volume of a member that was replaced, or
	// removed by hand, is kept before it is deleted; never before the cluster is
	// healthy without it. From 1h to 8760h. Volumes of a scale-in are not kept.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`size(self) > 1 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?h)?([0-9]{1,6}([.][0-9]{1,3})?m)?([0-9]{1,9}([.][0-9]{1,3})?s)?$') && duration(self) >= duration('1h') && duration(self) <= duration('8760h')`,message=`"…" is not a duration from 1h to 8760h — a volume that is kept too briefly cannot be looked at any more, and one that is kept for years is paid for — use hours such as 168h`,messageExpression=`'"' + self + '" is not a duration from 1h to 8760h — a volume that is kept too briefly cannot be looked at any more, and one that is kept for years is paid for — use hours such as 168h'`
	// +kubebuilder:default="168h"
	// +optional
	QuarantineFor metav1.Duration `json:"quarantineFor,omitempty,omitzero"`
}

// TLSMode turns transport security on or off.
// +kubebuilder:validation:Enum=Enabled;Optional;Disabled
// +kubebuilder:validation:MaxLength=16
type TLSMode string

const (
	// TLSEnabled is mutual TLS on every port, with certificates that the
	// operator issues and renews.
	TLSEnabled TLSMode = "Enabled"
	// TLSOptional takes mutual TLS and plaintext on the client port, on the way from one
	// to the other. The members reach each other over mutual TLS.
	TLSOptional TLSMode = "Optional"
	// TLSDisabled is plaintext: anyone who reaches a port reads and writes.
	TLSDisabled TLSMode = "Disabled"
)

// TLSPortSpec says where the authority of a port, or its certificates, come from.
// +kubebuilder:validation:XValidation:rule=`[has(self.authoritySecretRef), has(self.certManager), has(self.memberSecretRef)].filter(x, x).size() <= 1`,message=`… of authoritySecretRef, certManager and memberSecretRef are set — each says who issues the certificates of this port, and only one can — leave one of them`,messageExpression=`'%d of authoritySecretRef, certManager and memberSecretRef are set — each says who issues the certificates of this port, and only one can — leave one of them'.format([[has(self.authoritySecretRef), has(self.certManager), has(self.memberSecretRef)].filter(x, x).size()])`
type TLSPortSpec struct {
	// AuthoritySecretRef names a Secret of the namespace with a certificate authority in
	// tls.crt and its private key in tls.key; cert-manager writes such a one for a
	// Certificate with isCA. The operator tries it, copies it, and issues certificates by
	// it; another authority in the Secret takes the place of the present one without
	// downtime, as with rotateCA. Without it the operator makes an authority of its own.
	// +optional
	AuthoritySecretRef *SecretReference `json:"authoritySecretRef,omitempty"`

	// CertManager has cert-manager issue and renew the certificates of this port: those of
	// the members and, of the client port, those of the operator and for applications. The
	// operator makes a Certificate for each, and tries what is issued before anybody uses
	// it.
	// +optional
	CertManager *CertManagerSpec `json:"certManager,omitempty"`

	// MemberSecretRef names a Secret of the namespace with a certificate for all members in
	// tls.crt, its key in tls.key and the authority that it stands on in ca.crt. It serves
	// and dials at this port, so it is for servers and for clients, and covers every member,
	// for example by *.<cluster>.<namespace>.svc; that of the client port covers
	// <cluster>-client.<namespace>.svc and 127.0.0.1 as well. The operator tries it and
	// copies it; another certificate in the Secret is taken up without a restart, one of
	// another authority as with rotateCA.
	// +optional
	MemberSecretRef *SecretReference `json:"memberSecretRef,omitempty"`
}

// CertManagerSpec has cert-manager issue certificates.
type CertManagerSpec struct {
	// IssuerRef names the issuer that signs them.
	IssuerRef IssuerReference `json:"issuerRef"`
}

// IssuerReference names an issuer of cert-manager.
// +kubebuilder:validation:XValidation:rule=`!has(self.group) || self.group != 'cert-manager.io' || !has(self.kind) || self.kind in ['Issuer', 'ClusterIssuer']`,message=`"…" is not a kind of issuer — cert-manager would wait for it for ever — use Issuer or ClusterIssuer, or set the group of an issuer of your own`,messageExpression=`'"' + self.kind + '" is not a kind of issuer — cert-manager would wait for it for ever — use Issuer or ClusterIssuer, or set the group of an issuer of your own'`,fieldPath=`.kind`
type IssuerReference struct {
	// Name of the issuer; one of the kind Issuer is of this namespace.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,message=`"…" is not the name of an issuer — no certificate would ever be issued — name an Issuer of this namespace or a ClusterIssuer`,messageExpression=`'"' + self + '" is not the name of an issuer — no certificate would ever be issued — name an Issuer of this namespace or a ClusterIssuer'`
	Name string `json:"name"`

	// Kind is Issuer or ClusterIssuer, or one of another group.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:default=Issuer
	// +optional
	Kind string `json:"kind,omitempty"`

	// Group of the kind.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:default=cert-manager.io
	// +optional
	Group string `json:"group,omitempty"`
}

// TLSSpec protects the client and the peer port.
// +kubebuilder:validation:XValidation:rule=`!has(self.client) || !has(self.peer) || !has(self.client.authoritySecretRef) || !has(self.peer.authoritySecretRef) || self.client.authoritySecretRef.name != self.peer.authoritySecretRef.name`,message=`client and peer name the same authority — whoever has a client's certificate could join as a member, and read and write everything — name two Secrets with two authorities`,fieldPath=`.peer.authoritySecretRef`
// +kubebuilder:validation:XValidation:rule=`!has(self.client) || !has(self.peer) || !has(self.client.certManager) || !has(self.peer.certManager) || self.client.certManager.issuerRef.name != self.peer.certManager.issuerRef.name || self.client.certManager.issuerRef.kind != self.peer.certManager.issuerRef.kind || self.client.certManager.issuerRef.group != self.peer.certManager.issuerRef.group`,message=`client and peer name the same issuer — whoever has a client's certificate could join as a member, and read and write everything — name two issuers with two authorities`,fieldPath=`.peer.certManager`
// +kubebuilder:validation:XValidation:rule=`!has(self.client) || !has(self.peer) || !has(self.client.memberSecretRef) || !has(self.peer.memberSecretRef) || self.client.memberSecretRef.name != self.peer.memberSecretRef.name`,message=`client and peer name the same certificate — whoever has a client's certificate could join as a member, and read and write everything — name two Secrets with certificates of two authorities`,fieldPath=`.peer.memberSecretRef`
// +kubebuilder:validation:XValidation:rule=`(has(self.client) && has(self.client.memberSecretRef)) ? (has(self.operatorSecretRef) && has(self.applicationSecretRef)) : (!has(self.operatorSecretRef) && !has(self.applicationSecretRef))`,message=`client.memberSecretRef, operatorSecretRef and applicationSecretRef belong together — nobody here has the key of the authority to issue the others, and the operator, backups and applications need certificates that the members take — set all three, or none of them`,fieldPath=`.operatorSecretRef`
// +kubebuilder:validation:XValidation:rule=`!has(self.operatorSecretRef) || !has(self.applicationSecretRef) || self.operatorSecretRef.name != self.applicationSecretRef.name`,message=`operatorSecretRef and applicationSecretRef name the same certificate — the operator's is root to etcd's authentication, and every application would be — name two Secrets`,fieldPath=`.applicationSecretRef`
// +kubebuilder:validation:XValidation:rule=`!((has(self.client) && has(self.client.certManager)) || (has(self.peer) && has(self.peer.certManager))) || !has(self.leafDuration) || !(self.leafDuration.matches('^([0-9]{1,6}([.][0-9]{1,3})?h)?([0-9]{1,6}([.][0-9]{1,3})?m)?([0-9]{1,9}([.][0-9]{1,3})?s)?$') && size(self.leafDuration) > 1) || duration(self.leafDuration) >= duration('1h')`,message=`leafDuration is less than 1h — cert-manager refuses shorter certificates — use 1h or more`,messageExpression=`'leafDuration is ' + self.leafDuration + ', which is less than 1h — cert-manager refuses shorter certificates — use 1h or more'`,fieldPath=`.leafDuration`
type TLSSpec struct {
	// Mode is Enabled (mutual TLS on both ports), Disabled (plaintext), or Optional (mutual
	// TLS between members, and both on the client port). A cluster goes from Disabled to
	// Optional, and from there to Enabled once no client needs plaintext any more; it may
	// go back to Optional, and never to Disabled.
	// +kubebuilder:validation:XValidation:rule=`self == oldSelf || self != 'Disabled'`,messageExpression=`'the mode cannot change from ' + oldSelf + ' to Disabled — members that ask each other for certificates would have to trust whoever connects — use Optional, which takes clients without TLS as well'`
	// +kubebuilder:validation:XValidation:rule=`!(oldSelf == 'Disabled' && self == 'Enabled')`,message=`the mode cannot change from Disabled to Enabled at once — every client without a certificate would be refused — set Optional, lead the clients over to TLS, and then set Enabled`
	// +kubebuilder:default=Enabled
	// +optional
	Mode TLSMode `json:"mode,omitempty"`

	// Client says where the authority of the client port, or its certificates, come from.
	// +optional
	Client TLSPortSpec `json:"client,omitempty,omitzero"`

	// Peer says where the authority of the peer port, or its certificates, come from.
	// +optional
	Peer TLSPortSpec `json:"peer,omitempty,omitzero"`

	// OperatorSecretRef names a Secret of the namespace with the operator's certificate for
	// the client port, in tls.crt, tls.key and ca.crt; its common name is root, whom alone
	// etcd's authentication lets change members. It goes with client.memberSecretRef.
	// +optional
	OperatorSecretRef *SecretReference `json:"operatorSecretRef,omitempty"`

	// ApplicationSecretRef names a Secret of the namespace with the certificate that backups
	// use, and that is copied into <cluster>-client-tls for applications. It goes with
	// client.memberSecretRef.
	// +optional
	ApplicationSecretRef *SecretReference `json:"applicationSecretRef,omitempty"`

	// LeafDuration is the life of the members' and clients' certificates. They
	// are renewed at two thirds of it, in place, without a restart. From 5m to
	// 8760h.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`size(self) > 1 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?h)?([0-9]{1,6}([.][0-9]{1,3})?m)?([0-9]{1,9}([.][0-9]{1,3})?s)?$') && duration(self) >= duration('5m') && duration(self) <= duration('8760h')`,message=`"…" is not a duration from 5m to 8760h — a certificate must outlive its renewal, and one that lives for years cannot be withdrawn — use hours and minutes such as 2160h`,messageExpression=`'"' + self + '" is not a duration from 5m to 8760h — a certificate must outlive its renewal, and one that lives for years cannot be withdrawn — use hours and minutes such as 2160h'`
	// +kubebuilder:default="2160h"
	// +optional
	LeafDuration metav1.Duration `json:"leafDuration,omitempty,omitzero"`

	// RotateCA replaces the authorities that were issued before this time (RFC 3339), without
	// downtime: first everybody trusts the old and the new, then everybody serves
	// certificates of the new, then nobody trusts the old any more. A time in the
	// future is a date for it. Without it an authority is replaced at two thirds of its
	// life, which is ten years.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`size(self) == 0 || self.matches('^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-][01][0-9]:[0-5][0-9])$')`,message=`"…" is not a time — authorities that were issued before it would be replaced — use the form 2026-03-01T12:00:00Z, which date -u +%FT%TZ prints`,messageExpression=`'"' + self + '" is not a time — authorities that were issued before it would be replaced — use the form 2026-03-01T12:00:00Z, which date -u +%FT%TZ prints'`
	// +optional
	RotateCA string `json:"rotateCA,omitempty"`

	// RotationSoak is how long applications have to read their Secret again in each of
	// the two phases of a rotation: before members serve certificates of the new
	// authority, and before they refuse those of the old. From 0s to 8760h.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`size(self) > 1 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?h)?([0-9]{1,6}([.][0-9]{1,3})?m)?([0-9]{1,9}([.][0-9]{1,3})?s)?$') && duration(self) <= duration('8760h')`,message=`"…" is not a duration from 0s to 8760h — applications that have not read their Secret again by then are refused — use hours such as 24h, or 0s if nothing but the members needs the authorities`,messageExpression=`'"' + self + '" is not a duration from 0s to 8760h — applications that have not read their Secret again by then are refused — use hours such as 24h, or 0s if nothing but the members needs the authorities'`
	// +kubebuilder:default="24h"
	// +optional
	RotationSoak metav1.Duration `json:"rotationSoak,omitempty,omitzero"`
}

// CompactionMode is etcd's auto-compaction mode.
// +kubebuilder:validation:Enum=Periodic;Revision
type CompactionMode string

const (
	// CompactionPeriodic keeps the history of a span of time.
	CompactionPeriodic CompactionMode = "Periodic"
	// CompactionRevision keeps a number of revisions.
	CompactionRevision CompactionMode = "Revision"
)

// AutoCompaction discards old revisions.
// +kubebuilder:validation:XValidation:rule=`!has(self.retention) || !has(self.mode) || self.retention == '0' || (self.mode == 'Revision' ? self.retention.matches('^[1-9][0-9]{0,17}$') : (size(self.retention) > 1 && self.retention.matches('^([0-9]{1,6}([.][0-9]{1,3})?h)?([0-9]{1,6}([.][0-9]{1,3})?m)?([0-9]{1,9}([.][0-9]{1,3})?s)?$') && duration(self.retention) >= duration('1s')))`,message=`"…" is not a retention of mode … — etcd would refuse to start — use a number of revisions with Revision, a duration with Periodic, or 0 to keep every revision`,messageExpression=`'"' + self.retention + '" is not a retention of mode ' + self.mode + ' — etcd would refuse to start — use ' + (self.mode == 'Revision' ? 'a number of revisions such as 1000' : 'a duration such as 30m or 1h') + ', or 0 to keep every revision'`,fieldPath=`.retention`
type AutoCompaction struct {
	// Mode is Periodic or Revision.
	// +kubebuilder:default=Periodic
	// +optional
	Mode CompactionMode `json:"mode,omitempty"`

	// Retention is a duration ("1h", "30m") for Periodic, a number of
	// revisions ("1000") for Revision; "0" keeps every revision.
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:default="1h"
	// +optional
	Retention string `json:"retention,omitempty"`
}

// EtcdOptions are etcd's own options.
// +kubebuilder:validation:XValidation:rule=`(oldSelf.?electionMs == self.?electionMs && oldSelf.?heartbeatMs == self.?heartbeatMs) || (self.electionMs / 5 >= self.heartbeatMs && self.electionMs <= 50000)`,messageExpression=`'%d is not between five heartbeats (5 x %d) and 50000 — a shorter timeout elects a new leader whenever one heartbeat is late, and etcd refuses a longer one — use ten heartbeats, such as 1000 for a heartbeat of 100'.format([self.electionMs, self.heartbeatMs])`,fieldPath=`.electionMs`,optionalOldSelf=true
type EtcdOptions struct {
	// QuotaBackendBytes is the size of the database at which etcd refuses
	// writes, 64Mi to 16Gi. etcd advises at most 8Gi.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`(string(self).matches('^[0-9.]{1,16}[EGKMPTkm]?i?$') && isQuantity(string(self))) && quantity(string(self)).compareTo(quantity('64Mi')) >= 0 && quantity(string(self)).compareTo(quantity('16Gi')) <= 0`,message=`"…" is not a size from 64Mi to 16Gi — a smaller database fills up at once, and a larger one takes too long to copy to a new member — use a quantity such as 2Gi; etcd advises at most 8Gi`,messageExpression=`'"' + string(self) + '" is not a size from 64Mi to 16Gi — a smaller database fills up at once, and a larger one takes too long to copy to a new member — use a quantity such as 2Gi; etcd advises at most 8Gi'`
	// +kubebuilder:default="2Gi"
	// +optional
	QuotaBackendBytes resource.Quantity `json:"quotaBackendBytes,omitempty,omitzero"`

	// HeartbeatMs is the leader's heartbeat interval in milliseconds, 10 to
	// 10000.
	// +kubebuilder:validation:XValidation:rule=`self >= 10 && self <= 10000`,messageExpression=`'%d ms is not between 10 and 10000 — a shorter interval loads every member, and etcd refuses the election timeout that a longer one needs — use about the round trip between the members, such as 100'.format([self])`
	// +kubebuilder:default=100
	// +optional
	HeartbeatMs int32 `json:"heartbeatMs,omitempty"`

	// ElectionMs is the election timeout in milliseconds, at least five
	// heartbeats and at most 50000.
	// +kubebuilder:default=1000
	// +optional
	ElectionMs int32 `json:"electionMs,omitempty"`

	// SnapshotCount is the number of raft entries between two snapshots, 100
	// to 100000.
	// +kubebuilder:validation:XValidation:rule=`self >= 100 && self <= 100000`,messageExpression=`'%d entries are not between 100 and 100000 — fewer stop etcd for snapshots all the time, and more cost memory and a slow restart — use a number such as 10000'.format([self])`
	// +kubebuilder:default=10000
	// +optional
	SnapshotCount int64 `json:"snapshotCount,omitempty"`

	// MaxRequestBytes is the largest request that etcd accepts, 1Ki to 10Mi.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`(string(self).matches('^[0-9.]{1,16}[EGKMPTkm]?i?$') && isQuantity(string(self))) && quantity(string(self)).compareTo(quantity('1Ki')) >= 0 && quantity(string(self)).compareTo(quantity('10Mi')) <= 0`,message=`"…" is not a size from 1Ki to 10Mi — every member keeps large requests in memory and in the log several times over — use a quantity such as 1536Ki`,messageExpression=`'"' + string(self) + '" is not a size from 1Ki to 10Mi — every member keeps large requests in memory and in the log several times over — use a quantity such as 1536Ki'`
	// +kubebuilder:default="1536Ki"
	// +optional
	MaxRequestBytes resource.Quantity `json:"maxRequestBytes,omitempty,omitzero"`

	// AutoCompaction discards old revisions.
	// +kubebuilder:default={}
	// +optional
	AutoCompaction AutoCompaction `json:"autoCompaction,omitempty,omitzero"`

	// ExtraArgs are further etcd flags, by name without dashes. Flags that
	// carry identity, addresses, files or safety belong to the operator and
	// are refused.
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule=`self.all(k, k.matches('^[a-z0-9]+(-[a-z0-9]+)*$'))`,message=`…: not the name of a flag — etcd would refuse to start — use the name without the dashes in front, such as max-txn-ops`,messageExpression=`'%s: not the name of a flag — etcd would refuse to start — use the name without the dashes in front, such as max-txn-ops'.format([self.filter(k, !k.matches('^[a-z0-9]+(-[a-z0-9]+)*$'))])`
	// +kubebuilder:validation:XValidation:rule=`self.all(k, !k.matches('^(experimental-)?(name|data-dir|wal-dir|initial-(cluster|advertise).*|listen-.*|advertise-.*|.*-urls?|distributed-tracing-instance-id|discovery.*|proxy.*|.*-file|.*-tls|.*-tls-.*|peer-.*|client-.*|self-signed-.*|auth-token|force-new-cluster.*|unsafe-.*|strict-reconfig-check|max-learners|pre-vote|v2-deprecation|enable-v2.*|socket-reuse-port|memory-mlock|enable-log-rotation|log-rotation-.*|version|help|h)$'))`,message=`… cannot be set here — flags of identity, addresses, files, certificates and safety belong to the operator, and a wrong one loses the data or opens the cluster — remove it, or use the field of spec that serves the purpose`,messageExpression=`'%s cannot be set here — flags of identity, addresses, files, certificates and safety belong to the operator, and a wrong one loses the data or opens the cluster — remove it, or use the field of spec that serves the purpose'.format([self.filter(k, k.matches('^(experimental-)?(name|data-dir|wal-dir|initial-(cluster|advertise).*|listen-.*|advertise-.*|.*-urls?|distributed-tracing-instance-id|discovery.*|proxy.*|.*-file|.*-tls|.*-tls-.*|peer-.*|client-.*|self-signed-.*|auth-token|force-new-cluster.*|unsafe-.*|strict-reconfig-check|max-learners|pre-vote|v2-deprecation|enable-v2.*|socket-reuse-port|memory-mlock|enable-log-rotation|log-rotation-.*|version|help|h)$'))])`
	// +kubebuilder:validation:XValidation:rule=`self.all(k, !k.matches('^(experimental-)?(quota-backend-bytes|heartbeat-interval|election-timeout|snapshot-count|max-request-bytes|auto-compaction-(mode|retention))$'))`,message=`… cannot be set here — it has a field of its own in spec.etcd, and two places would contradict each other — use quotaBackendBytes, heartbeatMs, electionMs, snapshotCount, maxRequestBytes or autoCompaction`,messageExpression=`'%s cannot be set here — it has a field of its own in spec.etcd, and two places would contradict each other — use quotaBackendBytes, heartbeatMs, electionMs, snapshotCount, maxRequestBytes or autoCompaction'.format([self.filter(k, k.matches('^(experimental-)?(quota-backend-bytes|heartbeat-interval|election-timeout|snapshot-count|max-request-bytes|auto-compaction-(mode|retention))$'))])`
	// +kubebuilder:validation:XValidation:rule=`!('log-outputs' in self) || self['log-outputs'].matches('^(default|stdout|stderr)(,(default|stdout|stderr))*$')`,message=`log-outputs "…" names a file — the root file system of a member is read-only, so etcd would not start, and kubectl logs would stay empty — use stdout or stderr`,messageExpression=`'log-outputs "' + self['log-outputs'] + '" names a file — the root file system of a member is read-only, so etcd would not start, and kubectl logs would stay empty — use stdout or stderr'`
	// +kubebuilder:validation:XValidation:rule=`self.all(k, size(self[k]) <= 1024)`,message=`… has a value of more than 1024 characters — it is passed on the command line of etcd — use a shorter value`,messageExpression=`'%s has a value of more than 1024 characters — it is passed on the command line of etcd — use a shorter value'.format([self.filter(k, size(self[k]) > 1024)])`
	// +optional
	ExtraArgs map[string]string `json:"extraArgs,omitempty"`
}

// PodTemplate adds to the members' pods.
type PodTemplate struct {
	// Labels added to each pod.
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule=`self.all(k, !k.matches('^(app[.]kubernetes[.]io/(name|instance|component|part-of|managed-by|version)|([^/]*[.])?quorate[.]dev/.*)$'))`,message=`… cannot be set here — the operator finds the members by its own labels, and a wrong one would make it lose or confuse them — use a key with a prefix of your own`,messageExpression=`'%s cannot be set here — the operator finds the members by its own labels, and a wrong one would make it lose or confuse them — use a key with a prefix of your own'.format([self.filter(k, k.matches('^(app[.]kubernetes[.]io/(name|instance|component|part-of|managed-by|version)|([^/]*[.])?quorate[.]dev/.*)$'))])`
	// +kubebuilder:validation:XValidation:rule=`self.all(k, k.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$'))`,message=`…: not the key of a label — every pod of the cluster would be refused — use letters, digits, dashes, dots and underscores, with an optional DNS prefix before a slash`,messageExpression=`'%s: not the key of a label — every pod of the cluster would be refused — use letters, digits, dashes, dots and underscores, with an optional DNS prefix before a slash'.format([self.filter(k, !k.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$'))])`
	// +kubebuilder:validation:XValidation:rule=`self.all(k, size(self[k]) <= 63)`,message=`… has a value of more than 63 characters — every pod of the cluster would be refused — use at most 63 letters, digits, dashes, dots and underscores`,messageExpression=`'%s has a value of more than 63 characters — every pod of the cluster would be refused — use at most 63 letters, digits, dashes, dots and underscores'.format([self.filter(k, size(self[k]) > 63)])`
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// Annotations added to each pod.
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule=`self.all(k, !k.matches('^(app[.]kubernetes[.]io/(name|instance|component|part-of|managed-by|version)|([^/]*[.])?quorate[.]dev/.*)$'))`,message=`… cannot be set here — the operator finds the members by its own annotations, and a wrong one would make it lose or confuse them — use a key with a prefix of your own`,messageExpression=`'%s cannot be set here — the operator finds the members by its own annotations, and a wrong one would make it lose or confuse them — use a key with a prefix of your own'.format([self.filter(k, k.matches('^(app[.]kubernetes[.]io/(name|instance|component|part-of|managed-by|version)|([^/]*[.])?quorate[.]dev/.*)$'))])`
	// +kubebuilder:validation:XValidation:rule=`self.all(k, k.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$'))`,message=`…: not the key of an annotation — every pod of the cluster would be refused — use letters, digits, dashes, dots and underscores, with an optional DNS prefix before a slash`,messageExpression=`'%s: not the key of an annotation — every pod of the cluster would be refused — use letters, digits, dashes, dots and underscores, with an optional DNS prefix before a slash'.format([self.filter(k, !k.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$'))])`
	// +kubebuilder:validation:XValidation:rule=`self.all(k, !k.matches('^container[.]apparmor[.]security[.]beta[.]kubernetes[.]io/.*$'))`,message=`… cannot be set here — it could take the pods out of the restricted Pod Security profile — use podTemplate.appArmorProfile`,messageExpression=`'%s cannot be set here — it could take the pods out of the restricted Pod Security profile — use podTemplate.appArmorProfile'.format([self.filter(k, k.matches('^container[.]apparmor[.]security[.]beta[.]kubernetes[.]io/.*$'))])`
	// +kubebuilder:validation:XValidation:rule=`self.all(k, size(self[k]) <= 65536)`,message=`… has a value of more than 65536 characters — all annotations of a pod together may have 256 KiB — use a shorter value`,messageExpression=`'%s has a value of more than 65536 characters — all annotations of a pod together may have 256 KiB — use a shorter value'.format([self.filter(k, size(self[k]) > 65536)])`
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
	// ServiceAccountAnnotations added to the members' ServiceAccount, which has the cluster's name,
	// so that new members that are filled from a store without a Secret have an identity there:
	// eks.amazonaws.com/role-arn, iam.gke.io/gcp-service-account or
	// azure.workload.identity/client-id.
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule=`self.all(k, !k.matches('^(app[.]kubernetes[.]io/(name|instance|component|part-of|managed-by|version)|([^/]*[.])?quorate[.]dev/.*)$'))`,message=`… cannot be set here — the operator keeps its own annotations — use a key with a prefix of your own`,messageExpression=`'%s cannot be set here — the operator keeps its own annotations — use a key with a prefix of your own'.format([self.filter(k, k.matches('^(app[.]kubernetes[.]io/(name|instance|component|part-of|managed-by|version)|([^/]*[.])?quorate[.]dev/.*)$'))])`
	// +kubebuilder:validation:XValidation:rule=`self.all(k, k.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$'))`,message=`…: not the key of an annotation — the ServiceAccount would be refused — use letters, digits, dashes, dots and underscores, with an optional DNS prefix before a slash`,messageExpression=`'%s: not the key of an annotation — the ServiceAccount would be refused — use letters, digits, dashes, dots and underscores, with an optional DNS prefix before a slash'.format([self.filter(k, !k.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$'))])`
	// +kubebuilder:validation:XValidation:rule=`self.all(k, size(self[k]) <= 1024)`,message=`… has a value of more than 1024 characters — names of roles and of clients are shorter — use a shorter value`,messageExpression=`'%s has a value of more than 1024 characters — names of roles and of clients are shorter — use a shorter value'.format([self.filter(k, size(self[k]) > 1024)])`
	// +optional
	ServiceAccountAnnotations map[string]string `json:"serviceAccountAnnotations,omitempty"`
	// Resources of the etcd container.
	// +kubebuilder:validation:XValidation:rule=`!has(self.limits) || !('memory' in self.limits) || !(string(self.limits['memory']).matches('^[0-9.]{1,16}[EGKMPTkm]?i?$') && isQuantity(string(self.limits['memory']))) || quantity(string(self.limits['memory'])).compareTo(quantity('256Mi')) >= 0`,message=`… is too little memory — etcd maps its database and keeps the recent log in memory, and a member that is killed for memory takes part of the quorum with it — use at least 256Mi`,messageExpression=`'%s is too little memory — etcd maps its database and keeps the recent log in memory, and a member that is killed for memory takes part of the quorum with it — use at least 256Mi'.format([self.limits['memory']])`,fieldPath=`.limits.memory`
	// +kubebuilder:validation:XValidation:rule=`!has(self.limits) || self.limits.all(k, k in ['cpu', 'memory', 'ephemeral-storage'])`,message=`limits names a resource other than cpu, memory and ephemeral-storage — etcd uses no others, and a pod that asks for one may never be scheduled — remove it`,fieldPath=`.limits`
	// +kubebuilder:validation:XValidation:rule=`!has(self.limits) || !('cpu' in self.limits) || (string(self.limits['cpu']).matches('^[0-9.]{1,16}[EGKMPTkm]?i?$') && isQuantity(string(self.limits['cpu'])))`,message=`"…" is not a quantity of cpu — every pod of the cluster would be refused — use a form such as 500m, not negative and without an exponent`,messageExpression=`'"%s" is not a quantity of cpu — every pod of the cluster would be refused — use a form such as 500m, not negative and without an exponent'.format([self.limits['cpu']])`,fieldPath=`.limits.cpu`
	// +kubebuilder:validation:XValidation:rule=`!has(self.limits) || !('memory' in self.limits) || (string(self.limits['memory']).matches('^[0-9.]{1,16}[EGKMPTkm]?i?$') && isQuantity(string(self.limits['memory'])))`,message=`"…" is not a quantity of memory — every pod of the cluster would be refused — use a form such as 1Gi, not negative and without an exponent`,messageExpression=`'"%s" is not a quantity of memory — every pod of the cluster would be refused — use a form such as 1Gi, not negative and without an exponent'.format([self.limits['memory']])`,fieldPath=`.limits.memory`
	// +kubebuilder:validation:XValidation:rule=`!has(self.limits) || !('ephemeral-storage' in self.limits) || (string(self.limits['ephemeral-storage']).matches('^[0-9.]{1,16}[EGKMPTkm]?i?$') && isQuantity(string(self.limits['ephemeral-storage'])))`,message=`"…" is not a quantity of ephemeral-storage — every pod of the cluster would be refused — use a form such as 1Gi, not negative and without an exponent`,messageExpression=`'"%s" is not a quantity of ephemeral-storage — every pod of the cluster would be refused — use a form such as 1Gi, not negative and without an exponent'.format([self.limits['ephemeral-storage']])`,fieldPath=`.limits['ephemeral-storage']`
	// +kubebuilder:validation:XValidation:rule=`!has(self.requests) || self.requests.all(k, k in ['cpu', 'memory', 'ephemeral-storage'])`,message=`requests names a resource other than cpu, memory and ephemeral-storage — etcd uses no others, and a pod that asks for one may never be scheduled — remove it`,fieldPath=`.requests`
	// +kubebuilder:validation:XValidation:rule=`!has(self.requests) || !('cpu' in self.requests) || (string(self.requests['cpu']).matches('^[0-9.]{1,16}[EGKMPTkm]?i?$') && isQuantity(string(self.requests['cpu'])))`,message=`"…" is not a quantity of cpu — every pod of the cluster would be refused — use a form such as 500m, not negative and without an exponent`,messageExpression=`'"%s" is not a quantity of cpu — every pod of the cluster would be refused — use a form such as 500m, not negative and without an exponent'.format([self.requests['cpu']])`,fieldPath=`.requests.cpu`
	// +kubebuilder:validation:XValidation:rule=`!has(self.requests) || !('memory' in self.requests) || (string(self.requests['memory']).matches('^[0-9.]{1,16}[EGKMPTkm]?i?$') && isQuantity(string(self.requests['memory'])))`,message=`"…" is not a quantity of memory — every pod of the cluster would be refused — use a form such as 1Gi, not negative and without an exponent`,messageExpression=`'"%s" is not a quantity of memory — every pod of the cluster would be refused — use a form such as 1Gi, not negative and without an exponent'.format([self.requests['memory']])`,fieldPath=`.requests.memory`
	// +kubebuilder:validation:XValidation:rule=`!has(self.requests) || !('ephemeral-storage' in self.requests) || (string(self.requests['ephemeral-storage']).matches('^[0-9.]{1,16}[EGKMPTkm]?i?$') && isQuantity(string(self.requests['ephemeral-storage'])))`,message=`"…" is not a quantity of ephemeral-storage — every pod of the cluster would be refused — use a form such as 1Gi, not negative and without an exponent`,messageExpression=`'"%s" is not a quantity of ephemeral-storage — every pod of the cluster would be refused — use a form such as 1Gi, not negative and without an exponent'.format([self.requests['ephemeral-storage']])`,fieldPath=`.requests['ephemeral-storage']`
	// +kubebuilder:validation:XValidation:rule=`!has(self.claims) || size(self.claims) == 0`,message=`claims cannot be set here — the pods of members carry no resource claims, so every pod would be refused — remove claims`,fieldPath=`.claims`
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`
	// Affinity of the pods.
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`
	// Tolerations of the pods.
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// NodeSelector of the pods.
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule=`self.all(k, k.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$'))`,message=`…: not the key of a label — every pod of the cluster would be refused — use letters, digits, dashes, dots and underscores, with an optional DNS prefix before a slash`,messageExpression=`'%s: not the key of a label — every pod of the cluster would be refused — use letters, digits, dashes, dots and underscores, with an optional DNS prefix before a slash'.format([self.filter(k, !k.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$'))])`
	// +kubebuilder:validation:XValidation:rule=`self.all(k, size(self[k]) <= 63)`,message=`… has a value of more than 63 characters — no node could match it — use at most 63 letters, digits, dashes, dots and underscores`,messageExpression=`'%s has a value of more than 63 characters — no node could match it — use at most 63 letters, digits, dashes, dots and underscores'.format([self.filter(k, size(self[k]) > 63)])`
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// TopologySpreadConstraints replace the default, a soft spread over nodes
	// and zones. A constraint without a labelSelector counts the members of
	// this cluster.
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=topologyKey
	// +listMapKey=whenUnsatisfiable
	// +optional
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`
	// PriorityClassName of the pods.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`size(self) == 0 || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,message=`"…" is not the name of a PriorityClass — every pod of the cluster would be refused — use a name from kubectl get priorityclass`,messageExpression=`'"' + self + '" is not the name of a PriorityClass — every pod of the cluster would be refused — use a name from kubectl get priorityclass'`
	// +optional
	PriorityClassName string `json:"priorityClassName,omitempty"`
	// ImagePullSecrets of the pods.
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:XValidation:rule=`self.all(s, has(s.name) && size(s.name) > 0 && size(s.name) <= 253)`,message=`an entry has no name that a Secret can have — every pod of the cluster would be refused — name a Secret of type kubernetes.io/dockerconfigjson in the namespace of the cluster`
	// +optional
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`
	// SeccompProfile of the pods, RuntimeDefault if unset.
	// +kubebuilder:validation:XValidation:rule=`self.type in ['RuntimeDefault', 'Localhost']`,message=`"…" is not allowed — the pods must stay within the restricted Pod Security profile — use RuntimeDefault or Localhost`,messageExpression=`'"' + self.type + '" is not allowed — the pods must stay within the restricted Pod Security profile — use RuntimeDefault or Localhost'`,fieldPath=`.type`
	// +kubebuilder:validation:XValidation:rule=`(self.type == 'Localhost') == (has(self.localhostProfile) && size(self.localhostProfile) > 0)`,messageExpression=`'localhostProfile goes with type Localhost and with no other (type is ' + self.type + ') — every pod of the cluster would be refused — set both or neither'`,fieldPath=`.localhostProfile`
	// +optional
	SeccompProfile *corev1.SeccompProfile `json:"seccompProfile,omitempty"`
	// AppArmorProfile of the pods.
	// +kubebuilder:validation:XValidation:rule=`self.type in ['RuntimeDefault', 'Localhost']`,message=`"…" is not allowed — the pods must stay within the restricted Pod Security profile — use RuntimeDefault or Localhost`,messageExpression=`'"' + self.type + '" is not allowed — the pods must stay within the restricted Pod Security profile — use RuntimeDefault or Localhost'`,fieldPath=`.type`
	// +kubebuilder:validation:XValidation:rule=`(self.type == 'Localhost') == (has(self.localhostProfile) && size(self.localhostProfile) > 0)`,messageExpression=`'localhostProfile goes with type Localhost and with no other (type is ' + self.type + ') — every pod of the cluster would be refused — set both or neither'`,fieldPath=`.localhostProfile`
	// +optional
	AppArmorProfile *corev1.AppArmorProfile `json:"appArmorProfile,omitempty"`
}

// NetworkPolicySpec opens the members' ports. By default pods of the same
// namespace and the operator reach the client port, and nobody else the
// metrics port.
type NetworkPolicySpec struct {
	// ClientFrom are further peers that may reach the client port.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +kubebuilder:validation:XValidation:rule=`self.all(p, has(p.ipBlock) != (has(p.podSelector) || has(p.namespaceSelector)))`,message=`a peer has both an ipBlock and a selector, or none of them — the NetworkPolicy would be refused and the port stay as it is — give each peer an ipBlock, or a podSelector or namespaceSelector`
	// +kubebuilder:validation:XValidation:rule=`self.all(p, !has(p.ipBlock) || isCIDR(p.ipBlock.cidr))`,message=`…: not a network — the NetworkPolicy would be refused and the port stay as it is — use a form such as 10.0.0.0/8`,messageExpression=`'%s: not a network — the NetworkPolicy would be refused and the port stay as it is — use a form such as 10.0.0.0/8'.format([self.map(p, has(p.ipBlock) && !isCIDR(p.ipBlock.cidr), p.ipBlock.cidr)])`
	// +optional
	ClientFrom []networkingv1.NetworkPolicyPeer `json:"clientFrom,omitempty"`
	// MetricsFrom are the peers that may reach the metrics port.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +kubebuilder:validation:XValidation:rule=`self.all(p, has(p.ipBlock) != (has(p.podSelector) || has(p.namespaceSelector)))`,message=`a peer has both an ipBlock and a selector, or none of them — the NetworkPolicy would be refused and the port stay as it is — give each peer an ipBlock, or a podSelector or namespaceSelector`
	// +kubebuilder:validation:XValidation:rule=`self.all(p, !has(p.ipBlock) || isCIDR(p.ipBlock.cidr))`,message=`…: not a network — the NetworkPolicy would be refused and the port stay as it is — use a form such as 10.0.0.0/8`,messageExpression=`'%s: not a network — the NetworkPolicy would be refused and the port stay as it is — use a form such as 10.0.0.0/8'.format([self.map(p, has(p.ipBlock) && !isCIDR(p.ipBlock.cidr), p.ipBlock.cidr)])`
	// +optional
	MetricsFrom []networkingv1.NetworkPolicyPeer `json:"metricsFrom,omitempty"`
}

// AdoptSpec names the volumes of a deleted cluster.
type AdoptSpec struct {
	// ClusterUID is the value of the label etcd.quorate.dev/cluster-uid on the claims.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$')`,message=`"…" is not the UID of a cluster — no volume would be found — use the value of the label etcd.quorate.dev/cluster-uid of the claims`,messageExpression=`'"' + self + '" is not the UID of a cluster — no volume would be found — use the value of the label etcd.quorate.dev/cluster-uid of the claims'`
	ClusterUID string `json:"clusterUID"`
}

// RecoverySpec says with what a cluster goes on whose quorum is lost for good.
// +structType=atomic
// +kubebuilder:validation:XValidation:rule=`has(self.backupName) || has(self.survivor)`,message=`neither backupName nor survivor is set — there is nothing to go on with — name an EtcdBackup in backupName, or in survivor a member whose volume is left`
// +kubebuilder:validation:XValidation:rule=`!has(self.backupName) || !has(self.survivor)`,message=`both backupName and survivor are set — the cluster goes on with one of them — take one away: a survivor has what was written after the backup`
// +kubebuilder:validation:XValidation:rule=`!has(self.survivor) || !self.?allowUnverified.orValue(false)`,message=`allowUnverified is true and survivor is set — a survivor is no backup, and nobody has verified it — leave allowUnverified out`
type RecoverySpec struct {
	// Incarnation that is given up: status.incarnation of now. Once a new one has begun the
	// word is spent.
	// +kubebuilder:validation:Minimum=1
	Incarnation int64 `json:"incarnation"`
	// BackupName is the EtcdBackup of the same namespace that the new incarnation begins
	// with. Either it or survivor is set.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +optional
	BackupName string `json:"backupName,omitempty"`
	// Survivor is the member whose volume the new incarnation begins with a copy of. No
	// backup is needed. The volume itself stays as it is.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Survivor string `json:"survivor,omitempty"`
	// AllowUnverified takes an EtcdBackup that is not verified.
	// +optional
	AllowUnverified bool `json:"allowUnverified,omitempty"`
}

// FailoverSpec says when a member is given up.
type FailoverSpec struct {
	// ReplaceAfter is how long a member's node must be gone, and the member
	// silent, before the member is replaced; at least one minute. With more than
	// one of the members' nodes gone at once nothing is replaced.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`size(self) > 1 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?h)?([0-9]{1,6}([.][0-9]{1,3})?m)?([0-9]{1,9}([.][0-9]{1,3})?s)?$') && duration(self) >= duration('1m') && duration(self) <= duration('8760h')`,message=`"…" is not a duration from 1m to 8760h — a node that restarts is away for a minute, and every replacement costs a copy of the whole database — use at least 1m, such as 5m`,messageExpression=`'"' + self + '" is not a duration from 1m to 8760h — a node that restarts is away for a minute, and every replacement costs a copy of the whole database — use at least 1m, such as 5m'`
	// +kubebuilder:default="5m"
	// +optional
	ReplaceAfter metav1.Duration `json:"replaceAfter,omitempty,omitzero"`
	// LearnerTimeout is how long a learner may go without progress before it
	// is removed; at least one minute.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`size(self) > 1 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?h)?([0-9]{1,6}([.][0-9]{1,3})?m)?([0-9]{1,9}([.][0-9]{1,3})?s)?$') && duration(self) >= duration('1m') && duration(self) <= duration('8760h')`,message=`"…" is not a duration from 1m to 8760h — a learner makes no progress while it loads a snapshot, and removing it starts all over — use at least 1m, such as 15m`,messageExpression=`'"' + self + '" is not a duration from 1m to 8760h — a learner makes no progress while it loads a snapshot, and removing it starts all over — use at least 1m, such as 15m'`
	// +kubebuilder:default="15m"
	// +optional
	LearnerTimeout metav1.Duration `json:"learnerTimeout,omitempty,omitzero"`
}

// DefragmentationPolicy says when databases give free space back.
// +kubebuilder:validation:Enum=WhenFragmented;WhenFull
type DefragmentationPolicy string

const (
	// DefragmentWhenFragmented defragments a member half of whose database is free.
	DefragmentWhenFragmented DefragmentationPolicy = "WhenFragmented"
	// DefragmentWhenFull defragments only to make a full database take writes again.
	DefragmentWhenFull DefragmentationPolicy = "WhenFull"
)

// MaintenanceSpec says when members may be made to stand still.
type MaintenanceSpec struct {
	// Defragmentation is WhenFragmented, for members half of whose database is free,
	// at least 100 MiB or a quarter of the quota, one after the other and the leader
	// last; or WhenFull, only to make a full database take writes again, which is
	// never put off.
	// +kubebuilder:default=WhenFragmented
	// +optional
	Defragmentation DefragmentationPolicy `json:"defragmentation,omitempty"`

	// Window in which members are defragmented; at any time if unset, but for a
	// cluster of one member, which serves nobody meanwhile and is not without one.
	// +optional
	Window *MaintenanceWindow `json:"window,omitempty"`
}

// Weekday is a day of the week.
// +kubebuilder:validation:Enum=Monday;Tuesday;Wednesday;Thursday;Friday;Saturday;Sunday
type Weekday string

// MaintenanceWindow is a time of the day, on some days or on all of them. What has begun
// when it closes is finished.
type MaintenanceWindow struct {
	// Days on which the window opens; all of them if empty.
	// +kubebuilder:validation:MaxItems=7
	// +listType=set
	// +optional
	Days []Weekday `json:"days,omitempty"`

	// Start of the window, hours and minutes of a day of 24 hours, such as "03:30".
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule=`self.matches('^([01][0-9]|2[0-3]):[0-5][0-9]$')`,message=`"…" is not a time of the day — the window would never open — use hours and minutes such as 03:30`,messageExpression=`'"' + self + '" is not a time of the day — the window would never open — use hours and minutes such as 03:30'`
	// +required
	Start string `json:"start"`

	// Duration of the window, from 10m to 24h.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`size(self) > 1 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?h)?([0-9]{1,6}([.][0-9]{1,3})?m)?([0-9]{1,9}([.][0-9]{1,3})?s)?$') && duration(self) >= duration('10m') && duration(self) <= duration('24h')`,message=`"…" is not a duration from 10m to 24h — a shorter window is over before the turn of the last member, and a longer one is none — use hours and minutes such as 2h`,messageExpression=`'"' + self + '" is not a duration from 10m to 24h — a shorter window is over before the turn of the last member, and a longer one is none — use hours and minutes such as 2h'`
	// +kubebuilder:default="2h"
	// +optional
	Duration metav1.Duration `json:"duration,omitempty,omitzero"`

	// TimeZone of start, a name such as "Europe/Berlin".
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[A-Za-z][-A-Za-z0-9_+]*(/[-A-Za-z0-9_+]+){0,2}$') && self != 'Local'`,message=`"…" is not the name of a time zone — nobody could tell when the window opens — use a name of the IANA database such as Europe/Berlin, or Etc/UTC`,messageExpression=`'"' + self + '" is not the name of a time zone — nobody could tell when the window opens — use a name of the IANA database such as Europe/Berlin, or Etc/UTC'`
	// +kubebuilder:default="Etc/UTC"
	// +optional
	TimeZone string `json:"timeZone,omitempty"`
}

// MemberRole is a member's place in raft.
// +kubebuilder:validation:Enum=Voter;Learner
type MemberRole string

const (
	// RoleVoter counts for quorum.
	RoleVoter MemberRole = "Voter"
	// RoleLearner follows the log and does not count.
	RoleLearner MemberRole = "Learner"
)

// MemberStatus is what is known of one member.
type MemberStatus struct {
	// Name of the member and of its pod.
	Name string `json:"name"`
	// ID that etcd gave the member, in hex; empty until it is known.
	// +optional
	ID string `json:"id,omitempty"`
	// Role in raft; empty until etcd's list names the member.
	// +optional
	Role MemberRole `json:"role,omitempty"`
	// Version of etcd that the member runs, or ran when it last answered.
	// +optional
	Version string `json:"version,omitempty"`
	// DBSize of the member, rounded so that it does not change on every pass.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[0-9.]{1,16}[EGKMPTkm]?i?$`
	// +optional
	DBSize *resource.Quantity `json:"dbSize,omitempty"`
	// Position that the member told last, since the quorum is lost; absent while the cluster
	// serves. It decides which survivor has come furthest.
	// +optional
	Position *MemberPosition `json:"position,omitempty"`
	// Health is True when the member answered and follows the leader, False
	// when it does not, Unknown when it was not asked.
	Health metav1.ConditionStatus `json:"health"`
	// Message says why the member is not healthy.
	// +optional
	Message string `json:"message,omitempty"`
}

// OperationStatus is the work that is under way on a cluster.
type OperationStatus struct {
	// Kind of the work: Founding, Growing, Shrinking, Replacing, Upgrading, Downgrading,
	// Rolling, Rotating or Defragmenting.
	Kind string `json:"kind"`
	// Step that was taken last, for example RestartMember; empty while something is
	// waited for.
	// +optional
	Step string `json:"step,omitempty"`
	// Member that the step is about.
	// +optional
	Member string `json:"member,omitempty"`
	// Since when work of this kind has been under way.
	Since metav1.Time `json:"since"`
	// BlockedBy says what the next step waits for.
	// +optional
	BlockedBy string `json:"blockedBy,omitempty"`
}

// AuthorityPhase is how far the rotation of an authority is.
// +kubebuilder:validation:Enum=Stable;Trusting;Serving;Trimming
type AuthorityPhase string

const (
	// AuthorityStable: one authority is trusted, and signs.
	AuthorityStable AuthorityPhase = "Stable"
	// AuthorityTrusting: the new authority is trusted beside the old one, which still
	// signs; members are restarted to trust it, and applications have time to.
	AuthorityTrusting AuthorityPhase = "Trusting"
	// AuthorityServing: the new authority signs, and the old one is still trusted, while
	// certificates come into place and applications have time to read theirs.
	AuthorityServing AuthorityPhase = "Serving"
	// AuthorityTrimming: only the new authority is trusted, and members are restarted to
	// forget the old one.
	AuthorityTrimming AuthorityPhase = "Trimming"
)

// TLSStatus tells of the certificates.
type TLSStatus struct {
	// Authorities of the client and of the peer port.
	// +listType=map
	// +listMapKey=secret
	// +optional
	Authorities []AuthorityStatus `json:"authorities,omitempty"`
}

// AuthorityStatus is what is known of one authority.
type AuthorityStatus struct {
	// Secret that holds the authority.
	Secret string `json:"secret"`
	// Phase of its rotation; Stable without one.
	Phase AuthorityPhase `json:"phase"`
	// NotAfter is when the authority that signs ends.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`
	// Since when it is in this phase; absent while Stable.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// Until when applications have time to read their Secret again; the next phase
	// begins no sooner.
	// +optional
	Until *metav1.Time `json:"until,omitempty"`
	// WaitingFor are the members that have not come as far yet.
	// +listType=atomic
	// +optional
	WaitingFor []string `json:"waitingFor,omitempty"`
}

// ClusterBackupStatus tells of the newest good backup, and of the newest verified one,
// which may be older.
type ClusterBackupStatus struct {
	// LastSuccess is the newest EtcdBackup that is as it was asked for.
	// +kubebuilder:validation:MaxLength=63
	LastSuccess string `json:"lastSuccess"`
	// LastSuccessTime is when that backup began: no write that was acknowledged before it
	// is missing from it.
	// +optional
	LastSuccessTime *metav1.Time `json:"lastSuccessTime,omitempty"`
	// Revision of the cluster that it holds.
	// +optional
	Revision int64 `json:"revision,omitempty"`
	// Size of it in the store.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[0-9.]{1,16}[EGKMPTkm]?i?$`
	// +optional
	Size *resource.Quantity `json:"size,omitempty"`
	// LastVerified is the newest EtcdBackup that was restored and compared; absent if none
	// was.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	LastVerified string `json:"lastVerified,omitempty"`
	// LastVerifiedTime is when that backup began.
	// +optional
	LastVerifiedTime *metav1.Time `json:"lastVerifiedTime,omitempty"`
}

// RecoveryStatus tells of the recovery that the present incarnation began with.
type RecoveryStatus struct {
	// Incarnation that began.
	Incarnation int64 `json:"incarnation"`
	// BackupName is the EtcdBackup that its volumes are filled with; empty if it was a
	// survivor's volume.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	BackupName string `json:"backupName,omitempty"`
	// Survivor is the member whose volume was copied; absent if it was a backup.
	// +optional
	Survivor *SurvivorStatus `json:"survivor,omitempty"`
	// BackupID is the ID of that backup in its store, and BackupClusterUID the UID that it
	// lies below: an EtcdBackup that is made anew under the name is another one.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	BackupID string `json:"backupID,omitempty"`
	// BackupClusterUID is the UID of the cluster that the backup was taken of.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	BackupClusterUID string `json:"backupClusterUID,omitempty"`
	// RestoreName is the EtcdRestore that has asked for it; empty if spec.recovery has.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	RestoreName string `json:"restoreName,omitempty"`
	// RestoreUID is the UID of that EtcdRestore: another one of its name was not carried out.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	RestoreUID string `json:"restoreUID,omitempty"`
	// Time of the recovery.
	Time metav1.Time `json:"time"`
	// GivenUp says what was known of the members of the incarnation before. Their volumes
	// are kept.
	// +kubebuilder:validation:MaxLength=2048
	// +optional
	GivenUp string `json:"givenUp,omitempty"`
	// PossibleLoss says which acknowledged writes may be missing.
	// +kubebuilder:validation:MaxLength=2048
	// +optional
	PossibleLoss string `json:"possibleLoss,omitempty"`
}

// SurvivorStatus tells of the member whose volume an incarnation began with.
type SurvivorStatus struct {
	// Name of the member.
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// VolumeUID is the UID of its claim.
	// +kubebuilder:validation:MaxLength=64
	VolumeUID string `json:"volumeUID"`
	// Incarnation that it was a member of.
	Incarnation int64 `json:"incarnation"`
	// Term of raft that it was in when it told last; once its volume is copied, that of the
	// last entry of its log.
	// +optional
	Term int64 `json:"term,omitempty"`
	// Index up to which it had applied raft's log when it told last; once its volume is
	// copied, that of the last entry of its log.
	// +optional
	Index int64 `json:"index,omitempty"`
	// Revision of the keys that this was, before revisions were raised.
	// +optional
	Revision int64 `json:"revision,omitempty"`
	// Uncommitted is how many of the last entries of its log it had not been told to be
	// committed. They are kept, as clients may have been told.
	// +optional
	Uncommitted int64 `json:"uncommitted,omitempty"`
	// Copied says that its volume was copied, and is not needed any more.
	// +optional
	Copied bool `json:"copied,omitempty"`
}

// MemberPosition is how far a member has come.
type MemberPosition struct {
	// Term of raft that it is in.
	Term int64 `json:"term"`
	// Index up to which it has applied raft's log.
	Index int64 `json:"index"`
	// Revision of the keys that this is.
	// +optional
	Revision int64 `json:"revision,omitempty"`
}

// ClusterRestoreStatus tells of the EtcdRestore that is carried out, or would be next.
type ClusterRestoreStatus struct {
	// Name and UID of the EtcdRestore.
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// UID of the EtcdRestore.
	// +kubebuilder:validation:MaxLength=64
	UID string `json:"uid"`
	// Begun is when it was decided that the members are stopped for it, written before any
	// is; absent while it is waited for.
	// +optional
	Begun *metav1.Time `json:"begun,omitempty"`
	// Message says what is done, or what it waits for.
	// +kubebuilder:validation:MaxLength=4096
	// +optional
	Message string `json:"message,omitempty"`
}

// EtcdClusterStatus is what the operator last saw.
// +kubebuilder:validation:XValidation:rule=`!has(oldSelf.restorePoint) || size(oldSelf.restorePoint) == 0 || (has(self.restorePoint) && self.restorePoint == oldSelf.restorePoint) || (has(self.incarnation) && self.incarnation > (has(oldSelf.incarnation) ? oldSelf.incarnation : 0))`,message=`the point that a cluster begins with cannot change — some founders would begin with other data than the rest — read the object again before writing its status`,fieldPath=`.restorePoint`
// +kubebuilder:validation:XValidation:rule=`!has(oldSelf.incarnation) || (has(self.incarnation) && self.incarnation >= oldSelf.incarnation)`,messageExpression=`'%d is less than %d — the volumes of an older incarnation would count as members again — read the object again before writing its status'.format([self.?incarnation.orValue(0), oldSelf.incarnation])`,fieldPath=`.incarnation`
// +kubebuilder:validation:XValidation:rule=`!has(oldSelf.incarnation) || self.?incarnation.orValue(0) <= oldSelf.incarnation + 1`,messageExpression=`'%d is more than one above %d — an incarnation would be passed over, and nobody would know what its members were — raise it one at a time'.format([self.?incarnation.orValue(0), oldSelf.incarnation])`,fieldPath=`.incarnation`
// +kubebuilder:validation:XValidation:rule=`!has(oldSelf.nextOrdinal) || (has(self.nextOrdinal) && self.nextOrdinal >= oldSelf.nextOrdinal)`,messageExpression=`'%d is less than %d — a name would be given to a second member — read the object again before writing its status'.format([self.?nextOrdinal.orValue(0), oldSelf.nextOrdinal])`,fieldPath=`.nextOrdinal`
// +kubebuilder:validation:XValidation:rule=`!has(oldSelf.founders) || size(oldSelf.founders) == 0 || (has(self.founders) && self.founders == oldSelf.founders) || (has(self.incarnation) && self.incarnation > (has(oldSelf.incarnation) ? oldSelf.incarnation : 0))`,message=`… are not the founders of this incarnation, … — a second founding would split the cluster in two — founders are written once for each incarnation`,messageExpression=`'%s are not the founders of this incarnation, %s — a second founding would split the cluster in two — founders are written once for each incarnation'.format([self.?founders.orValue([]), oldSelf.founders])`,fieldPath=`.founders`
// +kubebuilder:validation:XValidation:rule=`!has(oldSelf.clusterID) || size(oldSelf.clusterID) == 0 || (has(self.clusterID) && self.clusterID == oldSelf.clusterID) || (has(self.incarnation) && self.incarnation > (has(oldSelf.incarnation) ? oldSelf.incarnation : 0))`,message=`… is not the cluster ID of this incarnation, … — members with another ID are another cluster — the ID is written once for each incarnation`,messageExpression=`'%s is not the cluster ID of this incarnation, %s — members with another ID are another cluster — the ID is written once for each incarnation'.format([self.?clusterID.orValue('nothing'), oldSelf.clusterID])`,fieldPath=`.clusterID`
// +kubebuilder:validation:XValidation:rule=`!has(oldSelf.clusterID) || size(oldSelf.clusterID) == 0 || (has(self.incarnation) && self.incarnation > (has(oldSelf.incarnation) ? oldSelf.incarnation : 0)) || (has(self.founderVolumes) == has(oldSelf.founderVolumes) && (!has(self.founderVolumes) || self.founderVolumes == oldSelf.founderVolumes))`,message=`the founders' volumes cannot change once the cluster is founded — a lost volume would be taken for a new one — read the object again before writing its status`,fieldPath=`.founderVolumes`
type EtcdClusterStatus struct {
	// ObservedGeneration is the generation of the spec that this status is
	// about; -1 before the first pass.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Operator is the installation of the operator that works on the cluster, by
	// the namespace and the name of its Lease. Another installation leaves the
	// cluster alone while that Lease is renewed. Empty it to hand the cluster over.
	// +kubebuilder:validation:MaxLength=320
	// +optional
	Operator string `json:"operator,omitempty"`

	// Conditions: Ready, Available, Reconciling, Stalled, and one per concern.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// Incarnation of the cluster, from 1. Only a restore and the recovery from
	// a lost quorum raise it.
	// +optional
	Incarnation int64 `json:"incarnation,omitempty"`

	// Founders are the members that found this incarnation, written once,
	// before any of them is created.
	// +kubebuilder:validation:MaxItems=7
	// +kubebuilder:validation:items:MaxLength=63
	// +listType=atomic
	// +optional
	Founders []string `json:"founders,omitempty"`

	// FounderVolumes are the UIDs of the founders' claims, by member name. Each
	// is written before the member's first pod, so that a volume which status
	// does not name has never held data, and the absence of one that it does
	// name is a loss. Frozen once clusterID is written.
	// +kubebuilder:validation:MaxProperties=7
	// +kubebuilder:validation:XValidation:rule=`self.all(k, size(k) <= 64 && size(self[k]) <= 64)`,message=`a name or a UID has more than 64 characters — no claim has such a one — use the names and UIDs of the claims`
	// +optional
	FounderVolumes map[string]string `json:"founderVolumes,omitempty"`

	// NextOrdinal is the number of the next new member. It only rises.
	// +optional
	NextOrdinal int32 `json:"nextOrdinal,omitempty"`

	// Joiner is the member that is being prepared to join: its name is taken
	// here, before anything bears it, and given up here, before anything of it
	// is deleted, so that no name is ever used twice. Empty once etcd lists it.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Joiner string `json:"joiner,omitempty"`

	// ClusterID is etcd's cluster ID in hex, written once a majority of the
	// founders agrees on it. From then on no member is ever started as new.
	// +kubebuilder:validation:MaxLength=32
	// +optional
	ClusterID string `json:"clusterID,omitempty"`

	// Operation is the work that is under way; absent at rest.
	// +optional
	Operation *OperationStatus `json:"operation,omitempty"`

	// Plan is what the operator would do, step by step, while the annotation
	// etcd.quorate.dev/plan is "true"; absent otherwise.
	// +kubebuilder:validation:MaxItems=200
	// +listType=atomic
	// +optional
	Plan []string `json:"plan,omitempty"`

	// Members in the order of their ordinals.
	// +listType=map
	// +listMapKey=name
	// +optional
	Members []MemberStatus `json:"members,omitempty"`

	// Replicas is the number of voters that etcd lists (for /scale).
	// +optional
	Replicas int32 `json:"replicas,omitempty"`

	// Selector of the members' pods (for /scale).
	// +optional
	Selector string `json:"selector,omitempty"`

	// MembersSummary is "healthy/wanted", for example "3/3".
	// +optional
	MembersSummary string `json:"membersSummary,omitempty"`

	// Leader is the name of the leading member.
	// +optional
	Leader string `json:"leader,omitempty"`

	// Downgrade is the minor release that the operator has begun to downgrade the members
	// to; absent once that is over.
	// +kubebuilder:validation:MaxLength=8
	// +optional
	Downgrade string `json:"downgrade,omitempty"`

	// OldEntries is the raft index up to which the members' logs may hold entries that
	// etcd 3.5 has written and 3.7 cannot read; -1 while a member runs 3.5, and absent
	// once every member has taken a snapshot since. 3.7 is not rolled out before.
	// +optional
	OldEntries int64 `json:"oldEntries,omitempty"`

	// PlaintextPeers says that members reach each other without TLS, or some of them may:
	// etcd's member list names a plaintext peer URL, or was not seen since it did.
	// +optional
	PlaintextPeers bool `json:"plaintextPeers,omitempty"`

	// TLS tells of the authorities and of their rotation; absent without TLS.
	// +optional
	TLS *TLSStatus `json:"tls,omitempty"`

	// RestorePoint is the ID in the store of the EtcdBackup of spec.restoreFrom, or of the
	// backup that its point of an archive was put together as, written once, for all founders.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	RestorePoint string `json:"restorePoint,omitempty"`

	// RevisionFloor is the least revision that this incarnation begins with, written once,
	// before any of its founders is made: a million for each second since 1970, so that it is
	// above all that was served under the cluster's name before. Absent if it begins with nothing.
	// +optional
	RevisionFloor int64 `json:"revisionFloor,omitempty"`

	// Backup tells of the EtcdBackups of the cluster in its namespace; absent while none
	// is good.
	// +optional
	Backup *ClusterBackupStatus `json:"backup,omitempty"`

	// Recovery that the present incarnation began with; absent if it was none.
	// +optional
	Recovery *RecoveryStatus `json:"recovery,omitempty"`

	// ObeyedRecovery is the spec.recovery, as incarnation/backupName or incarnation/survivor/NAME, for which members were
	// stopped: whoever carries it on need not see the loss told anew.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	ObeyedRecovery string `json:"obeyedRecovery,omitempty"`

	// Restore tells of the EtcdRestore that is carried out, or would be next; absent without
	// one, and once its incarnation has begun.
	// +optional
	Restore *ClusterRestoreStatus `json:"restore,omitempty"`

	// VoidRecovery is the spec.recovery, as incarnation/backupName or incarnation/survivor/NAME, under which the cluster
	// has served: it does not count any more, so that a word that was said for one loss of
	// the quorum does not answer the next.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	VoidRecovery string `json:"voidRecovery,omitempty"`

	// Version is the lowest that any member runs: a cluster is as old as its oldest
	// member.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Version string `json:"version,omitempty"`
}

// EtcdCluster is an etcd cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.size,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:resource:shortName=ec,categories=all;etcd
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Members",type=string,JSONPath=`.status.membersSummary`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Leader",type=string,JSONPath=`.status.leader`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Backup",type=string,JSONPath=`.status.conditions[?(@.type=="BackupReady")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Backed-Up",type=date,priority=1,JSONPath=`.status.backup.lastSuccessTime`
// +kubebuilder:validation:XValidation:rule=`!has(oldSelf.spec) || !has(oldSelf.spec.tls) || !has(oldSelf.spec.tls.mode) || oldSelf.spec.tls.mode != 'Disabled' || (has(self.spec) && has(self.spec.tls) && has(self.spec.tls.mode) && self.spec.tls.mode == 'Disabled') || (has(self.status) && has(self.status.clusterID) && size(self.status.clusterID) > 0)`,message=`the mode cannot change from Disabled while the cluster is being founded — some members would found one cluster, and some another — wait until status.clusterID is written, or delete the cluster and create it with the mode that it is to have`,fieldPath=`.spec.tls.mode`
// +kubebuilder:validation:XValidation:rule=`!has(self.spec) || !has(self.spec.storage) || !has(self.spec.storage.medium) || !has(oldSelf.spec) || !has(oldSelf.spec.storage) || !has(oldSelf.spec.storage.medium) || self.spec.storage.medium == oldSelf.spec.storage.medium || (has(self.status) && has(self.status.clusterID) && size(self.status.clusterID) > 0 && !(has(self.status.restore) && has(self.status.restore.begun)))`,message=`the medium cannot change while the cluster is being founded or carried back — some members would begin on volumes and some in memory, without its data — wait until status.clusterID is written and status.restore is gone`,messageExpression=`'the medium cannot change from %s to %s while the cluster is being %s — some members would begin on volumes and some in memory, without its data — wait until %s'.format([oldSelf.spec.storage.medium, self.spec.storage.medium, has(self.status) && has(self.status.clusterID) && size(self.status.clusterID) > 0 ? 'carried back' : 'founded', has(self.status) && has(self.status.clusterID) && size(self.status.clusterID) > 0 ? 'status.restore is gone' : 'status.clusterID is written'])`,fieldPath=`.spec.storage.medium`
// +kubebuilder:validation:XValidation:rule=`!has(self.spec) || !has(self.spec.version) || !has(oldSelf.spec) || !has(oldSelf.spec.version) || !self.spec.version.matches('^3[.][567][.](0|[1-9][0-9]{0,2})$') || !oldSelf.spec.version.matches('^3[.][567][.](0|[1-9][0-9]{0,2})$') || int(self.spec.version.split('.')[1]) >= int(oldSelf.spec.version.split('.')[1]) || !has(self.status) || !has(self.status.clusterID) || size(self.status.clusterID) == 0 || (has(self.status.version) && self.status.version.matches('^3[.][567][.](0|[1-9][0-9]{0,2})$') && int(self.status.version.split('.')[1]) <= int(self.spec.version.split('.')[1])) || (size(self.spec.?update.downgradeTo.orValue("")) > 0 && self.spec.version.startsWith(self.spec.update.downgradeTo + '.') && int(self.spec.version.split('.')[1]) == int(oldSelf.spec.version.split('.')[1]) - 1)`,message=`… is a lower minor release than … — an older etcd cannot open the data of a newer one, so a downgrade is a procedure of its own — keep the minor release, or ask for it with update.downgradeTo`,messageExpression=`'%s is a lower minor release than %s — an older etcd cannot open the data of a newer one, so a downgrade is a procedure of its own, unless a member still runs the older release — keep 3.%d.x, or ask for a downgrade by one minor release with update.downgradeTo'.format([self.spec.version, oldSelf.spec.version, int(oldSelf.spec.version.split('.')[1])])`,fieldPath=`.spec.version`
// +kubebuilder:validation:XValidation:rule=`!has(self.spec) || !has(self.spec.recovery) || (has(oldSelf.spec) && has(oldSelf.spec.recovery) && self.spec.recovery.incarnation == oldSelf.spec.recovery.incarnation && has(self.spec.recovery.backupName) == has(oldSelf.spec.recovery.backupName) && (!has(self.spec.recovery.backupName) || self.spec.recovery.backupName == oldSelf.spec.recovery.backupName) && has(self.spec.recovery.survivor) == has(oldSelf.spec.recovery.survivor) && (!has(self.spec.recovery.survivor) || self.spec.recovery.survivor == oldSelf.spec.recovery.survivor)) || self.spec.recovery.incarnation == self.?status.incarnation.orValue(1)`,message=`… is not the incarnation of the cluster, … — a word for another one recovers nothing — set it to status.incarnation`,messageExpression=`'%d is not the incarnation of the cluster, %d — a word for another one recovers nothing — set it to %d, which is status.incarnation'.format([self.spec.recovery.incarnation, self.?status.incarnation.orValue(1), self.?status.incarnation.orValue(1)])`,fieldPath=`.spec.recovery.incarnation`
// +kubebuilder:validation:XValidation:rule=`oldSelf.hasValue() || size(self.metadata.name) <= 40`,message=`metadata.name … has … characters — the names of pods, Services, volumes and certificates are made from it — use at most 40`,messageExpression=`'metadata.name %s has %d characters — the names of pods, Services, volumes and certificates are made from it — use at most 40'.format([self.metadata.name, size(self.metadata.name)])`,optionalOldSelf=true
// +kubebuilder:validation:XValidation:rule=`oldSelf.hasValue() || self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')`,message=`metadata.name … is not a DNS label — it becomes the name of a Service and a part of host names — use lower-case letters, digits and dashes, starting with a letter and without dots`,messageExpression=`'metadata.name ' + self.metadata.name + ' is not a DNS label — it becomes the name of a Service and a part of host names — use lower-case letters, digits and dashes, starting with a letter and without dots'`,optionalOldSelf=true
type EtcdCluster struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// +kubebuilder:default={}
	// +optional
	Spec EtcdClusterSpec `json:"spec,omitempty,omitzero"`
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status EtcdClusterStatus `json:"status,omitempty,omitzero"`
}

// EtcdClusterList is a list of clusters.
//
// +kubebuilder:object:root=true
type EtcdClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EtcdCluster `json:"items"`
}
