/** The reference backend: plain Java on {@link java.lang.Math#fma}, slow and simple; the definition of canonical arithmetic. */
package org.comneck.backend.reference;
