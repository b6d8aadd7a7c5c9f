package snapshot

// Keys of the Secret with a store's credentials, which are the names of the files in
// --credentials. They are read again, so that a Secret renewed in mid-upload is used for the
// rest of it: those of S3 every few seconds and when the store refuses them, that of GCS for
// every token and when one is refused, those of Azure for every request. Without --credentials
// the SDK looks for the pod's workload identity.
const (
	// S3: both are needed.
	CredentialS3KeyID = "AWS_ACCESS_KEY_ID"
	CredentialS3Key   = "AWS_SECRET_ACCESS_KEY"
	// CredentialS3Token is needed for temporary credentials only.
	CredentialS3Token = "AWS_SESSION_TOKEN"
	// CredentialGCS is the JSON key of a service account.
	CredentialGCS = "serviceAccount.json"
	// Azure: one of the two.
	CredentialAzureKey = "AZURE_STORAGE_KEY"
	CredentialAzureSAS = "AZURE_STORAGE_SAS_TOKEN"
)
