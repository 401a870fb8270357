//! Makes agents of PortableLoadBalancer objects and reports on them.
