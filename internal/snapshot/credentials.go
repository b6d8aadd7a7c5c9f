package snapshot

// Keys of the Secret with a store's credentials, which are the names of the files in
// --credentials. Those of S3 are read again every few seconds, so that a Secret renewed in
// mid-upload is used for the rest of it; those of the other two once, when a process begins.
// Without --credentials the SDK looks for the pod's workload identity.
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
