// Package cases opens cases of a running enclave as an engineer does, and reads them through the
// gateway as those whom they name, and as others. It holds nothing but tests.
package cases
