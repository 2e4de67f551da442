//! A real control plane, real kubelets and real livepatch kernels on one machine, for tests and the demo.
